//! How far a model is from saying something: log-odds, ln p − ln(1 − p), in nats, without cancellation.

use candle_core::{Device, IndexOp, Tensor};
use rayon::prelude::*;

use crate::tensor::{finite, numbers};
use crate::{Error, Result};

/// Logits `(n,o,v)` and o token ids → each token's log-odds at its place, `(n,o)`, in `f64`.
///
/// xⱼ = zⱼ(idⱼ) − ln Σ_{k ≠ idⱼ} exp zⱼ(k), which is ln p − ln(1 − p) for p = softmax(z)ⱼ(idⱼ), and stays right where p
/// rounds to 1.
///
/// Errors: another shape; not an id per place; an id beyond the vocabulary; a vocabulary of one; logits that are not finite.
///
/// ```
/// # use pellucid::prelude::*;
/// let sure = Tensor::new(&[[[50f32, 0.0, 0.0]]], &Device::Cpu)?;    // p = 1 in any precision
/// let odds = token_log_odds(&sure, &[0])?.to_vec2::<f64>()?;
/// assert!((odds[0][0] - (50.0 - 2f64.ln())).abs() < 1e-12);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn token_log_odds(logits: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let (n, v) = match *logits.dims() {
        [n, o, v] if o == ids.len() && o > 0 && n > 0 && v > 1 => (n, v),
        _ => return Err(Error::shape("the logits", format!("(n, {}, v), v > 1", ids.len()), logits.dims())),
    };
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= v) {
        return Err(Error::out_of_range("token id", id as usize, v));
    }
    let rows = logits.reshape((n * ids.len(), v))?;
    let at = |place: usize| {
        let row = numbers(&rows.i(place)?)?;
        finite("a logit", &row)?;
        Ok(log_odds(&row, ids[place % ids.len()] as usize))
    };
    let odds = (0..n * ids.len()).into_par_iter().map(at).collect::<Result<Vec<f64>>>()?;
    Ok(Tensor::from_vec(odds, (n, ids.len()), &Device::Cpu)?)
}

fn log_odds(logits: &[f64], id: usize) -> f64 {
    let others = || logits.iter().enumerate().filter(|(k, _)| *k != id).map(|(_, logit)| *logit);
    let top = others().fold(f64::NEG_INFINITY, f64::max);
    logits[id] - top - others().map(|logit| (logit - top).exp()).sum::<f64>().ln()
}

/// Log-odds of the tokens of a span, `(o,)` → those of the whole span: ln P − ln(1 − P) with P = Πⱼ pⱼ.
///
/// From r = −ln P = Σⱼ ln(1 + exp(−xⱼ)) it is −ln(eʳ − 1), which keeps its digits for P → 0 and for P → 1. Log-odds above 700
/// count as 700, since exp(−x) has no digits beyond. (context-cite 0.0.4 takes ln(1 − P) in single precision, and is infinite
/// where P is within 6e-8 of 1.)
///
/// Errors: no tokens; log-odds that are not finite.
///
/// **When it misleads**: a long span has a P near 0, so that its log-odds are its log-probability, and every token counts, also
/// those that no source has to do with. Ask for the part of the answer that states something.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!((span_logit(&[40.0])? - 40.0).abs() < 1e-12);                      // one token: its own
/// assert!((span_logit(&[0.0, 0.0])? - (0.25f64 / 0.75).ln()).abs() < 1e-12);  // ½·½
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn span_logit(log_odds: &[f64]) -> Result<f64> {
    if log_odds.is_empty() {
        return Err(Error::argument("the span has no tokens, so there is nothing it could be sure of"));
    }
    finite("a token's log-odds", log_odds)?;
    const MOST: f64 = 700.0;
    let r: f64 = log_odds.iter().map(|x| surprise(x.min(MOST))).sum();
    let logit = if r < 1.0 { -r.exp_m1().ln() } else { -r - (-(-r).exp()).ln_1p() };
    finite("the span's log-odds", &[logit])?;
    Ok(logit)
}

/// Log-odds x → −ln p = ln(1 + exp(−x)).
pub(super) fn surprise(x: f64) -> f64 {
    if x > 0.0 { (-x).exp().ln_1p() } else { x.exp().ln_1p() - x }
}
