//! Do two explanations rank the same features alike?

use crate::attribution::{Attribution, Features};
use crate::model::text::Token;
use crate::tensor::finite;
use crate::{Error, Result};

/// Spearman's rank correlation of two lists `(m,)`: the correlation of their ranks, ties sharing the mean of theirs
/// (Spearman 1904). 1 if both rank alike, −1 if the other way round.
///
/// Errors: lists of different lengths, or of fewer than two numbers; a list whose numbers are all the same, which ranks
/// nothing; anything that is not finite.
///
/// **When it misleads**: every feature counts alike, so two explanations that agree on the few that matter and not on the many
/// that do not are said to disagree.
///
/// ```
/// # use pellucid::rank_correlation;
/// assert_eq!(rank_correlation(&[1.0, 5.0, 2.0], &[10.0, 1000.0, 11.0])?, 1.0);
/// assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[-1.0, -2.0, -3.0])?, -1.0);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn rank_correlation(a: &[f64], b: &[f64]) -> Result<f64> {
    if a.len() != b.len() || a.len() < 2 {
        return Err(Error::shape("the second list", format!("({},), the first's, at least 2", a.len()), &[b.len()]));
    }
    finite("a score", a)?;
    finite("a score", b)?;
    let (a, b) = (deviations(&ranks(a)), deviations(&ranks(b)));
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let size = (product(&a, &a) * product(&b, &b)).sqrt();
    match size > 0.0 {
        true => Ok(product(&a, &b) / size),
        false => Err(Error::argument("all scores of a list are the same, so they rank nothing")),
    }
}

/// The place of every number among all, from 0; equal numbers share the mean of their places.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = |x: &f64| {
        let (below, up_to) = (sorted.partition_point(|other| other < x), sorted.partition_point(|other| other <= x));
        (below + up_to - 1) as f64 / 2.0
    };
    values.iter().map(rank).collect()
}

fn deviations(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

impl Attribution {
    /// Spearman's rank correlation with another attribution of the same features: do two methods, or two models, find the
    /// same things important? Special tokens are left out, since tokenizers differ in them.
    ///
    /// Errors: other features; those of [`rank_correlation`].
    ///
    /// **When it misleads**: it sees ranks alone, so a method that scores everything but one word 0.001 or −0.001 at random
    /// looks like a poor one.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, -3.0, 2.5], &Device::Cpu)?;
    /// let one = gradient_x_input(|x| Ok(x.sum(1)?), &x)?;                    // 1, −3, 2.5
    /// let other = gradient_x_input(|x| Ok((x.sqr()? * x)?.sum(1)?), &x)?;    // 3, −81, 46.875
    /// assert_eq!(one.agreement(&other)?, 1.0);                               // the same order
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn agreement(&self, other: &Attribution) -> Result<f64> {
        if !same_features(self, other) {
            return Err(Error::argument(
                "the attributions are over different features: compare tokens with tokens, words with words, of one text; pixels \
                 with pixels, patches with patches, of one picture",
            ));
        }
        rank_correlation(&plain(self), &plain(other))
    }
}

/// Whether two attributions are over the same features, but for special tokens.
pub(crate) fn same_features(a: &Attribution, b: &Attribution) -> bool {
    match (&a.features, &b.features) {
        (Features::Elements { shape: a }, Features::Elements { shape: b }) => a == b,
        (a, b) if a.map().is_some() || b.map().is_some() => a == b,
        _ => {
            let places =
                |of: &Attribution| of.tokens().iter().filter(|token| !token.special).map(place).collect::<Vec<_>>();
            !a.tokens().is_empty() && a.features.text() == b.features.text() && places(a) == places(b)
        }
    }
}

fn place(token: &Token) -> (usize, usize) {
    (token.start, token.end)
}

/// The scores of features that are not special.
fn plain(of: &Attribution) -> Vec<f64> {
    of.scores.iter().enumerate().filter(|(i, _)| !of.is_special(*i)).map(|(_, score)| *score).collect()
}
