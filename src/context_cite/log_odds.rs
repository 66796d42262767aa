//! How far a model is from saying something: log-odds, ln p − ln(1 − p), in nats, without cancellation.

use candle_core::{DType, Device, Tensor, WithDType};
use rayon::prelude::*;

use crate::model::blocks::{Real, greatest, simd, sum, view};
use crate::tensor::finite;
use crate::{Error, Result};

/// Logits `(n,o,v)` and o token ids → each token's log-odds at its place, `(n,o)`, in `f64`; exponentials in the precision of the
/// logits, at least `f32`.
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
    let rows = logits.detach().to_device(&Device::Cpu)?.contiguous()?;
    let odds = match rows.dtype() {
        DType::F64 => of_rows::<f64>(&rows, v, ids)?,
        _ => of_rows::<f32>(&rows.to_dtype(DType::F32)?, v, ids)?,
    };
    Ok(Tensor::from_vec(odds, (n, ids.len()), &Device::Cpu)?)
}

/// Rows of v logits, those of each id in turn.
fn of_rows<T: Real>(rows: &Tensor, v: usize, ids: &[u32]) -> Result<Vec<f64>> {
    let rows = &*view::<T>(rows)?;
    let id = |place: usize| ids[place % ids.len()] as usize;
    rows.par_chunks(v).enumerate().map(|(place, row)| log_odds(row, id(place))).collect()
}

fn log_odds<T: Real>(logits: &[T], id: usize) -> Result<f64> {
    if logits.iter().any(|logit| !logit.is_finite()) {
        finite("a logit", &logits.iter().map(|logit| WithDType::to_f64(*logit)).collect::<Vec<_>>())?;
    }
    let mut others = logits.to_vec();
    others.swap_remove(id);
    let top = greatest(&others);
    let rest: f64 = simd(
        #[inline(always)]
        || sum(others.len(), |k| WithDType::to_f64((others[k] - top).fast_exp())),
    );
    Ok(WithDType::to_f64(logits[id] - top) - rest.ln())
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
