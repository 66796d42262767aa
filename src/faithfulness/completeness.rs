//! By how much methods miss what they promise.

use crate::attribution::Attribution;
use crate::bootstrap::mean;
use crate::{Error, Result};

/// Explanations of some examples → the mean of |promised − got|, in the target's unit: the completeness error (arXiv 2411.16760,
/// table 4). For a method without a law it is `(why.sum() - promised).abs()`, with f(x), or f(x) − f(x′), as what it should have
/// promised.
///
/// Errors: no explanations; one without a law.
///
/// **When it misleads**: a sum that is right says nothing about its parts: all of f(x) on the first feature is complete.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::completeness_error;
/// let (x, square) = (Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?, |x: &Tensor| Ok(x.sqr()?.sum(1)?));
/// let why = |steps| integrated_gradients(square, &x, &x.zeros_like()?, &steps);
/// let left = why(Steps::new(Quadrature::Left, 4))?; // Σ x²·2·(0 + 1 + 2 + 3)/16 = 3.75, and 5 is promised
/// assert!((completeness_error(&[left, why(Steps::default())?])? - 1.25 / 2.0).abs() < 1e-12);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn completeness_error(whys: &[Attribution]) -> Result<f64> {
    let missed = |why: &Attribution| {
        let law = why.completeness.ok_or_else(|| Error::argument(format!("{} promises no sum", why.method)))?;
        Ok(law.gap().abs())
    };
    let missed = whys.iter().map(missed).collect::<Result<Vec<_>>>()?;
    match missed.is_empty() {
        true => Err(Error::argument("a mean needs at least one explanation")),
        false => Ok(mean(missed.into_iter())),
    }
}
