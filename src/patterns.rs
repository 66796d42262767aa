//! What every method that reads attention asks of it: maps of one size, whose rows are distributions over keys.

use candle_core::{D, DType, Device, Tensor, WithDType};

use crate::model::blocks::{Real, simd, sum, view};
use crate::tensor::{at_least_single, of_each};
use crate::{Error, Result};

/// How far from one a row may sum, in half precision.
const SLACK: f64 = 2e-2;

/// `L × (b,h,t,t)`, in `f32` at least, of attention that looks both ways.
pub(crate) fn bidirectional(attention: &[Tensor]) -> Result<Vec<Tensor>> {
    let (maps, seen) = surveyed(attention)?;
    match seen.iter().all(|map| !map.looks_ahead) && seen.iter().any(|map| map.looks_back) {
        false => Ok(maps),
        true => Err(Error::argument(
            "these attention maps are causal: all weights above the diagonal are zero. Their rollout drifts to the first \
             tokens whatever the model does, for every token reaches them; use `causal_rollout`, which corrects for that",
        )),
    }
}

/// `L × (b,h,t,t)`, in `f32` at least, of attention that looks back only.
pub(crate) fn causal(attention: &[Tensor]) -> Result<Vec<Tensor>> {
    let (maps, seen) = surveyed(attention)?;
    match seen.iter().position(|map| map.looks_ahead) {
        None => Ok(maps),
        Some(layer) => Err(Error::argument(format!(
            "the attention of layer {layer} is not causal: there is weight above the diagonal, where queries look ahead. Use \
             `rollout` for models that look both ways"
        ))),
    }
}

/// `L × (b,h,t,t)`, in `f32` at least, whose rows sum to one.
pub(crate) fn patterns(attention: &[Tensor]) -> Result<Vec<Tensor>> {
    Ok(surveyed(attention)?.0)
}

/// The maps, whose rows sum to one, and what is to be seen in each.
fn surveyed(attention: &[Tensor]) -> Result<(Vec<Tensor>, Vec<Survey>)> {
    let first = attention.first().ok_or_else(no_layers)?;
    for map in attention {
        if map.rank() != 4 || map.dims() != first.dims() || map.dims()[2] != map.dims()[3] || map.elem_count() == 0 {
            return Err(Error::shape("an attention map", "(b, h, t, t), the same in every layer", map.dims()));
        }
    }
    let maps: Vec<_> =
        attention.iter().map(|map| at_least_single(&map.detach())).collect::<candle_core::Result<_>>()?;
    let seen = of_each(&maps, Survey::of)?;
    match seen.iter().enumerate().find_map(|(layer, seen)| Some((layer, seen.trouble()?))) {
        None => Ok((maps, seen)),
        Some((layer, found)) => Err(Error::argument(format!(
            "the attention of layer {layer} is no pattern: {found}. A pattern is softmax(q·kᵀ/√d), a row per query, and \
             each row sums to one, as a model's `attention` yields it; scores before the softmax, gradients and transposed \
             maps are no patterns"
        ))),
    }
}

pub(crate) fn no_layers() -> Error {
    Error::argument("there must be the attention of at least one layer")
}

/// What one walk over a layer's rows finds.
#[derive(Default)]
struct Survey {
    /// A row's sum that is not one, if there is such a row.
    sum: Option<f64>,
    /// The lowest weight of a row that has one below zero, if there is such a row.
    negative: Option<f64>,
    looks_ahead: bool,
    looks_back: bool,
}

impl Survey {
    /// Errors if a row is not a distribution.
    fn of(map: &Tensor) -> Result<Self> {
        let (t, flat) = (map.dim(D::Minus1)?, map.flatten_all()?.to_device(&Device::Cpu)?);
        Ok(match flat.dtype() {
            DType::F64 => Self::of_rows(&view::<f64>(&flat)?, t),
            _ => Self::of_rows(&view::<f32>(&flat)?, t),
        })
    }

    /// Why this is no pattern, if it is none.
    fn trouble(&self) -> Option<String> {
        let sum = self.sum.map(|sum| format!("a row sums to {sum:.3}"));
        sum.or_else(|| self.negative.map(|weight| format!("it holds the weight {weight:.3}")))
    }

    fn of_rows<T: Real>(weights: &[T], t: usize) -> Self {
        let mut seen = Self::default();
        for (row, weights) in weights.chunks_exact(t).enumerate() {
            let (query, some) = (row % t, |weights: &[T]| weights.iter().any(|&weight| weight > T::zero()));
            let below = |weight: T| if weight < T::zero() { weight } else { T::zero() };
            let (total, negative) = simd(
                #[inline(always)]
                || (sum(t, |i| weights[i]), sum(t, |i| below(weights[i]))),
            );
            let total = WithDType::to_f64(total);
            seen.looks_ahead = seen.looks_ahead || some(&weights[query + 1..]);
            seen.looks_back = seen.looks_back || some(&weights[..query]);
            if total.is_nan() || (total - 1.0).abs() > SLACK {
                seen.sum = seen.sum.or(Some(total));
            }
            if negative < T::zero() {
                seen.negative =
                    seen.negative.or(weights.iter().map(|&weight| WithDType::to_f64(weight)).reduce(f64::min));
            }
        }
        seen
    }
}
