//! LIME: the sparse linear model that is nearest to f around x, when groups of features are there or not.
//!
//! Ribeiro, Singh & Guestrin 2016, arXiv 1602.04938.

use candle_core::Tensor;
use ndarray::{Array1, Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ablation::Groups;
use crate::attribution::Attribution;
use crate::lasso::lasso;
use crate::shapley::{Present, play};
use crate::{Error, Result};

/// How LIME looks around x.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[2.0f64, 1.0, 0.0], &Device::Cpu)?;
/// let scores = |alpha: f64| -> Result<Vec<f64>> {
///     let options = Lime { alpha, ..Lime::new(200, 0) };
///     Ok(lime(|x| Ok(x.sum(1)?), &x, &x.zeros_like()?, &Groups::elements(&x), &options)?.scores)
/// };
/// assert_eq!(scores(0.4)?[2], 0.0);
/// assert!(scores(0.4)?[0] < scores(0.01)?[0]);    // the penalty draws to zero
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lime {
    /// How many variants of x, in each of which every group is there with probability ½; the first is x itself.
    pub samples: usize,
    /// Same seed, same variants.
    pub seed: u64,
    /// The weight of the L1 penalty: the larger, the fewer groups have a score.
    pub alpha: f64,
    /// σ of the similarity exp(−d²/2σ²), d being the cosine distance between a variant's row of ones and zeros and x's.
    pub kernel_width: f64,
}

impl Lime {
    /// `samples` variants from a seed, with α = 0.01 and σ = 1, Captum's defaults.
    pub fn new(samples: usize, seed: u64) -> Self {
        Self { samples, seed, alpha: 0.01, kernel_width: 1.0 }
    }

    fn check(&self) -> Result<()> {
        let problem = match self {
            Self { samples: 0 | 1, .. } => "LIME needs at least two samples",
            Self { alpha, .. } if !alpha.is_finite() || *alpha < 0.0 => "LIME's α must be a number ≥ 0",
            Self { kernel_width, .. } if !kernel_width.is_finite() || *kernel_width <= 0.0 => {
                "LIME's kernel width must be a number > 0"
            }
            _ => return Ok(()),
        };
        Err(Error::argument(problem))
    }

    fn variants(&self, groups: usize) -> Present {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let drawn = (1..self.samples).map(|_| (0..groups).map(|_| rng.random_bool(0.5)).collect());
        std::iter::once(vec![true; groups]).chain(drawn).collect()
    }

    /// How much a variant counts. The cosine between its ones and x's is √(share of groups that are there).
    fn similarity(&self, present: &[bool]) -> f64 {
        let share = present.iter().filter(|there| **there).count() as f64 / present.len() as f64;
        let distance = 1.0 - share.sqrt();
        (-distance * distance / (2.0 * self.kernel_width * self.kernel_width)).exp()
    }
}

/// `f: (n,…) → (n,)` or `(n,o)`, x, x′ → one score per group: the coefficients of the weighted LASSO (arXiv 1602.04938, eq. 1
/// and algorithm 1).
///
/// minimise `1/(2m)·Σ_z π(z)·(b + w·z − f(z))² + α·|w|₁`
///
/// over m variants z, their weights π scaled to a mean of one.
///
/// Errors: fewer than two samples; a negative α; a kernel without width; groups that overlap; those of
/// [`ablate`](crate::ablate).
///
/// **When it misleads**: scores depend on α, on the kernel and on the seed, and promise no sum. Draw again with another seed
/// before you believe a small one.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64, 2.0, 0.001], &Device::Cpu)?;
/// let nearest = lime(|x| Ok(x.sum(1)?), &x, &x.zeros_like()?, &Groups::elements(&x), &Lime::new(200, 0))?;
/// assert!((nearest.scores[1] - 2.0).abs() < 0.1 && nearest.scores[2] == 0.0);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn lime(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    groups: &Groups,
    options: &Lime,
) -> Result<Attribution> {
    options.check()?;
    let present = options.variants(groups.len());
    let weights: Vec<f64> = present.iter().map(|there| options.similarity(there)).collect();
    let outcomes = play(&f, "LIME, samples", x, baseline, groups, &present)?;
    let scores = |values: &[f64]| weighted_lasso(&present, values, &weights, options.alpha);
    let attribution = outcomes.explain("LIME", &[groups.len()], &scores)?;
    let attribution = Attribution { seed: Some(options.seed), ..attribution };
    Ok(attribution.setting("samples", options.samples).setting("α", options.alpha).setting("σ", options.kernel_width))
}

/// Rows of ones and zeros, values `(m,)`, weights `(m,)` → coefficients. Centring by the weighted means leaves the intercept
/// out; roots of the weights make the squares weighted.
fn weighted_lasso(present: &Present, values: &[f64], weights: &[f64], alpha: f64) -> Result<Vec<f64>> {
    let total: f64 = weights.iter().sum();
    let weights: Array1<f64> = weights.iter().map(|weight| weight * weights.len() as f64 / total).collect();
    let rows = Array2::from_shape_fn((present.len(), present[0].len()), |(i, j)| f64::from(u8::from(present[i][j])));
    let values = Array1::from(values.to_vec());
    let (count, column) = (present.len() as f64, weights.view().insert_axis(Axis(1)));
    let centred = &rows - &((&rows * &column).sum_axis(Axis(0)) / count);
    let aim = &values - (&values * &weights).sum() / count;
    let roots = weights.mapv(f64::sqrt);
    let (coefficients, _) = lasso(centred * roots.view().insert_axis(Axis(1)), aim * &roots, alpha)?;
    Ok(coefficients)
}
