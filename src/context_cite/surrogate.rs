//! The sparse linear model of what a model says with fewer sources.

use ndarray::{Array1, Array2, Axis};

use super::Masks;
use crate::attribution::supporting;
use crate::lasso::lasso;
use crate::tensor::finite;
use crate::{Error, Result};

/// f̂(v) = b + w·v: what a span's log-odds are said to be if the sources v are kept.
///
/// ```
/// # use pellucid::prelude::*;
/// let surrogate = Surrogate { weights: vec![2.0, 0.0, -1.0], intercept: 0.5, gap: 0.0 };
/// assert_eq!(surrogate.predict(&Masks::leave_one_out(3)?)?, [1.5, -0.5, 1.5, 2.5]);    // b + w·v
/// assert_eq!(surrogate.supporting(2), [0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Surrogate {
    /// w `(s,)`: what each source adds, in nats. Many are exactly zero.
    pub weights: Vec<f64>,
    /// b: what is said without any source.
    pub intercept: f64,
    /// The law it promises, to minimise the LASSO's objective, and by how much it missed: the duality gap, as a share of what a
    /// surrogate without sources misses.
    pub gap: f64,
}

impl Surrogate {
    /// Masks `(m,s)` → f̂ of each, `(m,)`. Its rank correlation with the outputs for masks that were not fitted says how far to
    /// trust the weights, the «linear datamodeling score»: [`rank_correlation`](crate::rank_correlation).
    ///
    /// Errors: masks over another number of sources.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let masks = draw_masks(5, 64, 0.5, 0)?;
    /// let said: Vec<f64> = masks.rows().iter().map(|kept| if kept[3] { 2.0 } else { -4.0 }).collect();
    /// let surrogate = fit_context_surrogate(&masks, &said, 0.01)?;
    /// let new = draw_masks(5, 16, 0.5, 1000)?;
    /// let actual: Vec<f64> = new.rows().iter().map(|kept| if kept[3] { 2.0 } else { -4.0 }).collect();
    /// assert!(rank_correlation(&surrogate.predict(&new)?, &actual)? > 0.99);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn predict(&self, masks: &Masks) -> Result<Vec<f64>> {
        Ok(masks.sums(&self.weights)?.into_iter().map(|sum| self.intercept + sum).collect())
    }

    /// The k sources that add most, the first of them the most: those of the largest weights above 0; of equals the earlier.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let surrogate = Surrogate { weights: vec![0.5, -3.0, 2.0, 0.0], intercept: 0.0, gap: 0.0 };
    /// assert_eq!(surrogate.supporting(3), [2, 0]);    // what adds, not what is large
    /// ```
    pub fn supporting(&self, k: usize) -> Vec<usize> {
        supporting(&self.weights, k)
    }
}

/// Masks `(m,s)` and the outputs for them `(m,)` → the surrogate that is nearest, sparsely (arXiv 2409.00729).
///
/// minimise `1/(2m)·Σ_v (f(v) − b′ − w′·z(v))² + α·|w′|₁`
///
/// z being the masks with every column at mean 0 and variance 1 (a column that never changes stays at variance 0, and has
/// weight 0); then w = w′/σ and b = b′ − w·μ. In `f64`, to the minimum.
///
/// context-cite takes α = 0.01. It divides the log-odds of a span of o tokens by o first, and multiplies the weights by it
/// afterwards; the same is to take α = 0.01·o here.
///
/// Errors: fewer than two masks; not an output for each; outputs that are not finite; an α that is not above 0.
///
/// **When it misleads**: two sources that say the same are each worth little, for the other is there; a source that is needed
/// together with another is worth half. Weights are drawn towards 0 by α/σ, and small ones change with the masks: predict
/// masks that were not fitted before you believe them.
///
/// ```
/// # use pellucid::prelude::*;
/// let masks = draw_masks(5, 64, 0.5, 0)?;
/// let said: Vec<f64> = masks.rows().iter().map(|kept| if kept[3] { 2.0 } else { -4.0 }).collect();
/// let surrogate = fit_context_surrogate(&masks, &said, 0.01)?;
/// assert_eq!(surrogate.supporting(1), [3]);
/// assert!((surrogate.weights[3] - 6.0).abs() < 0.03 && surrogate.weights[0] == 0.0);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn fit_context_surrogate(masks: &Masks, outputs: &[f64], alpha: f64) -> Result<Surrogate> {
    check(masks, outputs, alpha)?;
    let (m, s) = (masks.len() as f64, masks.sources());
    let kept = Array2::from_shape_fn((masks.len(), s), |(i, j)| f64::from(u8::from(masks.rows()[i][j])));
    let means = kept.sum_axis(Axis(0)) / m;
    let deviations = means.mapv(|mean| (mean * (1.0 - mean)).sqrt()); // of ones and zeros
    let scales = deviations.mapv(|deviation| if deviation > 0.0 { deviation } else { 1.0 });
    let mean = outputs.iter().sum::<f64>() / m;
    let centred: Array1<f64> = outputs.iter().map(|output| output - mean).collect();
    let (standard, gap) = lasso((kept - &means) / &scales, centred, alpha)?;
    let weights = Array1::from(standard) / scales;
    Ok(Surrogate { intercept: mean - means.dot(&weights), weights: weights.to_vec(), gap })
}

fn check(masks: &Masks, outputs: &[f64], alpha: f64) -> Result<()> {
    if outputs.len() != masks.len() {
        return Err(Error::shape("the outputs", format!("({},), one per mask", masks.len()), &[outputs.len()]));
    }
    if outputs.len() < 2 {
        return Err(Error::argument("one mask cannot tell sources apart: draw more, 64 are usual"));
    }
    if !alpha.is_finite() || alpha <= 0.0 {
        return Err(Error::argument(format!("α must be a number above 0, got {alpha}: 0.01 is usual")));
    }
    finite("an output", outputs)
}
