//! ln p of given tokens, from logits.

use std::sync::Arc;

use candle_core::{D, Tensor};

use super::matrix::Real;
use super::stage::{Block, Rows, Shape, Tape};
use super::{greatest, simd, sum};
use crate::tensor::at_least_single;
use crate::{Error, Result};

/// `(n,t,v) → (n,t,1)`: yⱼ = ln pⱼ(idⱼ) with pⱼ = softmax(xⱼ), the log-probability of one token at each place.
///
/// Backward: x̄ⱼ = ȳⱼ·(onehot(idⱼ) − pⱼ).
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, LogProbability, Stage};
/// let chain = Chain::new(vec![Stage::LogProbability(LogProbability::new(&[1]))]);
/// let logits = Tensor::new(&[[[0.0f64, 0.0, 0.0, 0.0]]], &Device::Cpu)?;
/// let said = chain.forward(&logits, None, &mut Clear)?.flatten_all()?.to_vec1::<f64>()?;
/// assert!((said[0] - 0.25f64.ln()).abs() < 1e-12);
/// let slope = grad_at(|x| Ok(chain.forward(x, None, &mut Clear)?.sum((1, 2))?), &logits)?;
/// assert!((slope.i((0, 0, 1))?.to_scalar::<f64>()? - 0.75).abs() < 1e-12);    // 1 − p
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LogProbability {
    ids: Arc<[u32]>,
}

impl LogProbability {
    /// Of these tokens, one for each place.
    pub fn new(ids: &[u32]) -> Self {
        Self { ids: ids.into() }
    }
}

impl Block for LogProbability {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        if shape.tokens != self.ids.len() {
            candle_core::bail!(
                "log-probabilities of {} tokens are asked for at {} places",
                self.ids.len(),
                shape.tokens
            )
        }
        let of = |(logits, &id): (&[T], &u32)| logits[id as usize] - log_sum_exp(logits);
        let y = x.chunks_exact(shape.channels).zip(self.ids.iter().cycle()).map(of).collect();
        Ok((y, vec![x]))
    }

    fn backward<T: Real>(&self, kept: &[Rows<T>], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let x = &kept[0];
        let mut dx = vec![T::zero(); x.len()];
        let rows = x.chunks_exact(shape.channels).zip(dx.chunks_exact_mut(shape.channels));
        for (((logits, dx), &id), &dy) in rows.zip(self.ids.iter().cycle()).zip(&dy) {
            if dy != T::zero() {
                scaled_softmax(logits, dx, -dy);
                dx[id as usize] += dy;
            }
        }
        Ok(dx)
    }

    fn composed(&self, x: &Tensor, _: &Shape) -> candle_core::Result<Tensor> {
        let (n, t, _) = x.dims3()?;
        let ids = Tensor::new(&*self.ids, x.device())?.reshape((1, t, 1))?.repeat((n, 1, 1))?;
        candle_nn::ops::log_softmax(&at_least_single(x)?, D::Minus1)?.gather(&ids, 2)?.to_dtype(x.dtype())
    }

    fn width(&self, channels: usize) -> Result<usize> {
        match self.ids.iter().find(|&&id| id as usize >= channels) {
            Some(&id) => Err(Error::out_of_range("token id", id as usize, channels)),
            None => Ok(1),
        }
    }
}

/// ln Σ eˣ.
fn log_sum_exp<T: Real>(row: &[T]) -> T {
    simd(
        #[inline(always)]
        || {
            let top = greatest(row);
            top + sum(row.len(), |i| (row[i] - top).fast_exp()).ln()
        },
    )
}

/// y = scale·softmax(x).
fn scaled_softmax<T: Real>(x: &[T], y: &mut [T], scale: T) {
    let size = log_sum_exp(x);
    simd(
        #[inline(always)]
        || y.iter_mut().zip(x).for_each(|(y, &x)| *y = scale * (x - size).fast_exp()),
    );
}
