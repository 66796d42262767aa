//! Where a number would lie if other examples had been drawn.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::tensor::finite;
use crate::{Error, Result};

/// The percentile bootstrap (Efron 1979): n examples are drawn from the n with replacement, many times over, and the interval
/// holds the middle share of what comes out.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::bootstrap_mean;
/// let rates = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0];
/// let width = |level: f64| -> Result<f64> {
///     let estimate = bootstrap_mean(&rates, &Bootstrap { level, ..Bootstrap::default() })?;
///     Ok(estimate.high - estimate.low)
/// };
/// assert!(width(0.5)? < width(0.95)?);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// How many times; at least 20.
    pub draws: usize,
    /// The share of them that the interval holds, between 0 and 1.
    pub level: f64,
    /// Same seed, same draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: 1000, level: 0.95, seed: 0 }
    }
}

impl Bootstrap {
    /// Which of n examples are drawn, draw by draw.
    ///
    /// Errors: too few draws; a level that is none.
    pub(crate) fn drawn(&self, n: usize) -> Result<Vec<Vec<usize>>> {
        let Self { draws, level, seed } = *self;
        if draws < 20 || !(level > 0.0 && level < 1.0) {
            return Err(Error::argument(format!(
                "the bootstrap takes at least 20 draws and a level between 0 and 1; got {draws} and {level}: 1000 and 0.95 are usual"
            )));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Ok((0..draws).map(|_| (0..n).map(|_| rng.random_range(0..n)).collect()).collect())
    }

    /// The interval that holds the middle share of the numbers that came out, `(low, high)`.
    pub(crate) fn ends(&self, mut numbers: Vec<f64>) -> (f64, f64) {
        numbers.sort_by(f64::total_cmp);
        let at = |share: f64| numbers[((numbers.len() - 1) as f64 * share).round() as usize];
        (at((1.0 - self.level) / 2.0), at((1.0 + self.level) / 2.0))
    }
}

/// A mean over examples, and the interval it would lie in if other examples had been drawn.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{Estimate, bootstrap_mean};
/// let Estimate { mean, low, high, examples } = bootstrap_mean(&[1.0, 2.0, 3.0], &Bootstrap::default())?;
/// assert!(mean == 2.0 && low < mean && mean < high && examples == 3);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Over how many examples.
    pub examples: usize,
}

/// Numbers of examples `(m,)`, in any order → their mean, with its interval by the bootstrap. For two methods on the same
/// examples, take the differences: the interval of a paired difference is much narrower than those of its parts.
///
/// Errors: no examples; a number that is not finite; fewer than 20 draws, or a level not between 0 and 1.
///
/// **When it misleads**: it knows the examples it is given and no others, so of ten it is too narrow; and it holds for examples
/// drawn as these were.
///
/// ```
/// use pellucid::{Bootstrap, faithfulness::bootstrap_mean};
/// let rates = bootstrap_mean(&[0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0], &Bootstrap::default())?;
/// assert!(rates.mean == 0.625 && rates.low < 0.4 && rates.high > 0.8);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn bootstrap_mean(numbers: &[f64], bootstrap: &Bootstrap) -> Result<Estimate> {
    finite("an example's number", numbers)?;
    if numbers.is_empty() {
        return Err(Error::argument("a mean needs at least one example"));
    }
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp); // so that the interval does not hang on the order of the examples
    let means = bootstrap.drawn(sorted.len())?.iter().map(|drawn| mean(drawn.iter().map(|&i| sorted[i]))).collect();
    let (low, high) = bootstrap.ends(means);
    Ok(Estimate { mean: mean(sorted.iter().copied()), low, high, examples: sorted.len() })
}

pub(crate) fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len() as f64;
    numbers.sum::<f64>() / count
}
