//! How far a model is from saying something: log-odds, ln p − ln(1 − p), in nats, without cancellation.

use candle_core::{DType, Device, Tensor, WithDType};
use rayon::prelude::*;

use crate::model::blocks::{Real, greatest, simd, sum, view};
use crate::tensor::{all_finite, at_least_single, finite, numbers, wide};
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
    let rows = at_least_single(&logits.detach())?.contiguous()?;
    let odds = match (rows.device().is_cpu(), rows.dtype()) {
        (false, _) => composed(&rows, ids)?,
        (true, DType::F64) => of_rows::<f64>(&rows, v, ids)?,
        (true, _) => of_rows::<f32>(&rows, v, ids)?,
    };
    Ok(Tensor::from_vec(odds, (n, ids.len()), &Device::Cpu)?)
}

/// The same from candle's operations, where the logits are: to bring all of a vocabulary's home would take longer than the model.
/// One example at a time, for what lies between is as large as the logits.
fn composed(logits: &Tensor, ids: &[u32]) -> Result<Vec<f64>> {
    all_finite("a logit", logits)?;
    let (n, o, v) = logits.dims3()?;
    let ids = Tensor::new(ids, logits.device())?.unsqueeze(1)?;
    let said = Tensor::arange(0u32, v as u32, logits.device())?.broadcast_as((o, v))?.eq(&ids.broadcast_as((o, v))?)?;
    let hidden = Tensor::full(f32::NEG_INFINITY, (o, v), logits.device())?.to_dtype(logits.dtype())?;
    let odds = |row: usize| {
        let row = logits.get(row)?;
        let others = said.where_cond(&hidden, &row)?;
        let top = others.max_keepdim(1)?;
        let rest = others.broadcast_sub(&top)?.exp()?.to_dtype(wide(&row))?.sum_keepdim(1)?.log()?;
        numbers(&((row.gather(&ids, 1)? - top)?.to_dtype(rest.dtype())? - rest)?)
    };
    Ok((0..n).map(odds).collect::<Result<Vec<_>>>()?.concat())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_roads_meet() -> Result<()> {
        let (n, ids, v) = (3, [4u32, 0, 510, 77], 511);
        let logit = |i: usize| 30.0 * (i as f64 * 0.37).sin() + (i % 13) as f64;
        let logits = Tensor::from_iter((0..n * ids.len() * v).map(logit), &Device::Cpu)?.reshape((n, ids.len(), v))?;
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
            let logits = logits.to_dtype(dtype)?;
            let (kernels, composed) = (numbers(&token_log_odds(&logits, &ids)?)?, composed(&logits, &ids)?);
            let gap = kernels.iter().zip(&composed).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(gap < tolerance, "{dtype:?}: {gap:e}");
        }
        let infinite = Tensor::full(f64::NAN, (1, 1, 2), &Device::Cpu)?;
        assert!(composed(&infinite, &[0]).is_err_and(|error| error.to_string().contains("a logit is not finite")));
        Ok(())
    }
}
