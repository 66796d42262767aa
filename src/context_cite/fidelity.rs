//! How far a surrogate can be believed: masks it was not fitted to, and masks drawn again from those it was.

use std::collections::BTreeMap;

use super::{Masks, fit_context_surrogate};
use crate::Result;
use crate::agreement::rank_correlation;
use crate::bootstrap::Bootstrap;

/// Masks are dealt out to so many parts, each predicted by surrogates of the others.
const FOLDS: usize = 4;

/// Masks `(m,s)` and outputs `(m,)` → how well surrogates rank masks that they were not fitted to: the i-th mask that differs
/// from those before belongs with its equals to part i mod 4, and is predicted by a surrogate of the other three; Spearman's
/// rank correlation of these with the outputs. 0 if nothing is predicted to matter; `None` if fewer than 16 masks differ, which
/// tell nothing, or if all outputs are the same.
///
/// It estimates, without another pass, the linear datamodeling score of a surrogate of three quarters of the masks.
///
/// Errors: those of [`fit_context_surrogate`](super::fit_context_surrogate).
pub(super) fn held_out(masks: &Masks, outputs: &[f64], alpha: f64) -> Result<Option<f64>> {
    let (numbers, distinct) = numbered(masks);
    if distinct < 4 * FOLDS {
        return Ok(None);
    }
    let mut predicted = vec![0.0; masks.len()];
    for fold in 0..FOLDS {
        let (others, held): (Vec<usize>, Vec<usize>) =
            (0..masks.len()).partition(|mask| numbers[*mask] % FOLDS != fold);
        let some: Vec<f64> = others.iter().map(|mask| outputs[*mask]).collect();
        let surrogate = fit_context_surrogate(&masks.some(&others)?, &some, alpha)?;
        let sums = masks.some(&held)?.sums(&surrogate.weights)?; // without b, which ranks nothing
        held.iter().zip(sums).for_each(|(mask, value)| predicted[*mask] = value);
    }
    let varies = outputs.iter().any(|output| *output != outputs[0]);
    Ok(varies.then(|| rank_correlation(&predicted, outputs).unwrap_or(0.0)))
}

/// Every mask's number among those that differ, in the order in which they first come, and how many these are.
fn numbered(masks: &Masks) -> (Vec<usize>, usize) {
    let mut first = BTreeMap::new();
    let number = |mask| {
        let next = first.len();
        *first.entry(mask).or_insert(next)
    };
    let numbers = masks.rows().iter().map(number).collect();
    (numbers, first.len())
}

/// Where weights would lie if other masks had been drawn.
///
/// ```
/// # use pellucid::prelude::*;
/// let masks = draw_masks(5, 64, 0.5, 0)?;
/// let said: Vec<f64> = masks.rows().iter().map(|kept| if kept[3] { 2.0 } else { -4.0 }).collect();
/// let bootstrap = Bootstrap { draws: 50, ..Bootstrap::default() };
/// let Intervals { low, high, chosen } = bootstrap_surrogate(&masks, &said, 0.01, &bootstrap)?;
/// assert!(low[3] > 5.0 && high[3] < 7.0 && (chosen[3], chosen[0]) == (1.0, 0.0));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Intervals {
    /// `(s,)`: the lower end of every weight's interval.
    pub low: Vec<f64>,
    /// `(s,)`: the upper end.
    pub high: Vec<f64>,
    /// `(s,)`: in what share of the fits the weight was not zero.
    pub chosen: Vec<f64>,
}

/// Masks `(m,s)` and outputs `(m,)` → intervals of the surrogate's weights by the bootstrap (Efron 1979): m masks are drawn from
/// the m with replacement, the surrogate fitted anew, many times over; the interval holds the middle share of the weights.
///
/// Errors: those of [`fit_context_surrogate`](super::fit_context_surrogate); fewer than 20 draws; a level not between 0 and 1.
///
/// **When it misleads**: weights are drawn towards zero, and so are their intervals; and no interval knows what a linear surrogate
/// cannot express.
///
/// ```
/// # use pellucid::prelude::*;
/// let masks = draw_masks(5, 64, 0.5, 0)?;
/// let said: Vec<f64> = masks.rows().iter().map(|kept| if kept[3] { 2.0 } else { -4.0 }).collect();
/// let weights = bootstrap_surrogate(&masks, &said, 0.01, &Bootstrap { draws: 100, ..Bootstrap::default() })?;
/// assert!(weights.low[3] > 5.9 && weights.high[3] < 6.0 && weights.chosen[3] == 1.0 && weights.high[0] == 0.0);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn bootstrap_surrogate(masks: &Masks, outputs: &[f64], alpha: f64, bootstrap: &Bootstrap) -> Result<Intervals> {
    fit_context_surrogate(masks, outputs, alpha)?;
    let fit = |drawn: &Vec<usize>| {
        let some: Vec<f64> = drawn.iter().map(|mask| outputs[*mask]).collect();
        Ok(fit_context_surrogate(&masks.some(drawn)?, &some, alpha)?.weights)
    };
    let fits = bootstrap.drawn(masks.len())?.iter().map(fit).collect::<Result<Vec<_>>>()?;
    let (mut low, mut high, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
    for source in 0..masks.sources() {
        let weights: Vec<f64> = fits.iter().map(|weights| weights[source]).collect();
        chosen.push(weights.iter().filter(|weight| **weight != 0.0).count() as f64 / fits.len() as f64);
        let (least, most) = bootstrap.ends(weights);
        low.push(least);
        high.push(most);
    }
    Ok(Intervals { low, high, chosen })
}
