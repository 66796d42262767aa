//! Curves of what is measured of explanations, each mean within its interval.

use super::chart::{Band, Chart, Series};
use crate::bootstrap::{Bootstrap, bootstrap_mean};
use crate::faithfulness::{Deletion, Measure, Randomisation};
use crate::{Error, Result};

impl Chart {
    /// Methods and their deletions of some examples → two curves for each, most and least important first, over the fraction that
    /// is taken away, each within its interval. The further apart the two, the better.
    ///
    /// Errors: no deletions of a method; fractions that differ; those of [`bootstrap_mean`].
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::faithfulness::{Measure, TENTHS, deletion};
    /// let x = Tensor::new(&[2.0f64, -1.0, 0.5, -3.0], &Device::Cpu)?;
    /// let yes = |present: &Tensor| Ok(present.broadcast_mul(&x)?.sum(1)?);
    /// let curves = deletion(yes, &gradient_x_input(|x| Ok(x.sum(1)?), &x)?, 0, &TENTHS)?;
    /// let chart = Chart::deletion(&[("gradient × input", vec![curves])], Measure::Logit, &Bootstrap::default())?;
    /// assert!(chart.text().contains("gradient × input, most first"));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn deletion(methods: &[(&str, Vec<Deletion>)], measure: Measure, bootstrap: &Bootstrap) -> Result<Self> {
        let mut curves = Vec::new();
        for (method, deletions) in methods {
            let x = fractions(method, deletions)?;
            for (order, of) in [("most first", Deletion::most_first as Order), ("least first", Deletion::least_first)] {
                let from_all = |one: &Deletion| [vec![one.whole().by(measure)], of(one, measure)].concat();
                let values: Vec<_> = deletions.iter().map(from_all).collect();
                curves.push(curve(format!("{method}, {order}"), &x, &values, bootstrap)?);
            }
        }
        let (series, bands) = curves.into_iter().unzip();
        Self::curves("Deletion", "fraction taken away", measure.words(), series).between(bands)
    }
}

type Order = fn(&Deletion, Measure) -> Vec<f64>;

/// The fractions that a method's deletions have in common, after 0.
fn fractions(method: &str, deletions: &[Deletion]) -> Result<Vec<f64>> {
    let first = deletions.first().ok_or_else(|| Error::argument(format!("there are no deletions by {method}")))?;
    match deletions.iter().all(|deletion| deletion.fractions() == first.fractions()) {
        true => Ok([&[0.0], first.fractions()].concat()),
        false => Err(Error::argument(format!("the deletions by {method} are not all of the same fractions"))),
    }
}

/// Examples × values at each x → their means, and the intervals of these.
///
/// Errors: not a value of each example at each x; those of [`bootstrap_mean`].
fn curve(name: String, x: &[f64], values: &[Vec<f64>], bootstrap: &Bootstrap) -> Result<(Series, Band)> {
    if let Some(odd) = values.iter().find(|values| values.len() != x.len()) {
        let wanted = format!("({},), one per point of the curve", x.len());
        return Err(Error::shape(format!("an example's {name}"), wanted, &[odd.len()]));
    }
    let at = |i: usize| bootstrap_mean(&values.iter().map(|values| values[i]).collect::<Vec<_>>(), bootstrap);
    let estimates = (0..x.len()).map(at).collect::<Result<Vec<_>>>()?;
    let points = x.iter().zip(&estimates).map(|(x, estimate)| (*x, estimate.mean)).collect();
    Ok((Series { name, points }, estimates.iter().map(|estimate| (estimate.low, estimate.high)).collect()))
}

impl Randomisation {
    /// The mean rank correlation after every step, 0 being the trained model, within its interval.
    ///
    /// Errors: not a correlation of each example at each step; those of [`bootstrap_mean`].
    pub fn chart(&self, bootstrap: &Bootstrap) -> Result<Chart> {
        let examples = self.correlations.iter().map(Vec::len).max().unwrap_or(0);
        let of_example = |i: usize| {
            let fading = self.correlations.iter().filter_map(|step| step.get(i).copied());
            std::iter::once(1.0).chain(fading).collect()
        };
        let values: Vec<Vec<f64>> = (0..examples).map(of_example).collect();
        let x: Vec<f64> = (0..=self.steps.len()).map(|step| step as f64).collect();
        let (series, band) = curve("rank correlation".into(), &x, &values, bootstrap)?;
        let steps: Vec<_> = self.steps.iter().enumerate().map(|(i, step)| format!("{}: {step}", i + 1)).collect();
        let note = format!("0: as trained; shuffled down to {}", steps.join(", "));
        let chart =
            Chart::curves("Cascading randomisation", "step", "rank correlation with the trained model", vec![series]);
        Ok(chart.between(vec![band])?.note(&note))
    }
}
