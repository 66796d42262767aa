//! Attention rollout: R = Ã_L ⋯ Ã₁, with Ã = ½(A + I).
//!
//! Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, 2020, arXiv 2005.00928, eq. 1.

use candle_core::{D, DType, Device, Tensor};

use crate::{Error, Result};

/// How a layer's heads become one map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadFusion {
    /// The mean over heads, the paper's.
    #[default]
    Mean,
    /// The largest weight over heads.
    Max,
    /// The smallest weight over heads.
    Min,
}

/// How attention maps are rolled out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rollout {
    /// How a layer's heads become one map.
    pub fusion: HeadFusion,
    /// The share of each map's weakest weights that is set to zero before the residual is added; 0 keeps all, as the paper.
    pub discard: f64,
}

/// `L × (b,h,t,t) → (b,t,t)`: how much of each input token arrives at each position of the last layer.
///
/// Per layer, heads are fused, the weakest `⌊t²·discard⌋` weights set to zero (the very first, class to class, is spared),
/// the residual connection added as ½(A + I), rows divided by their sums, and layers multiplied, last on the left. Rows
/// therefore sum to one.
///
/// Errors: no maps; maps that are not `(b,h,t,t)` of one size; `discard` outside `[0, 1)`.
///
/// **When it misleads**: it knows nothing of the classes, of the values that attention moves, or of the feed-forward
/// layers; a model with random weights has a rollout too.
///
/// ```
/// # use pellucid::prelude::*;
/// let uniform = Tensor::full(0.5f64, (1, 1, 2, 2), &Device::Cpu)?;
/// let rolled = rollout(&[uniform.clone(), uniform], &Rollout::default())?;
/// assert_eq!(rolled.to_vec3::<f64>()?, [[[0.625, 0.375], [0.375, 0.625]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn rollout(attention: &[Tensor], options: &Rollout) -> Result<Tensor> {
    let none = || Error::argument("rollout needs at least one layer's attention");
    let (first, above) = attention.split_first().ok_or_else(none)?;
    if !(0.0..1.0).contains(&options.discard) {
        return Err(Error::argument(format!("`discard` is a share in [0, 1), got {}", options.discard)));
    }
    for map in attention {
        if map.rank() != 4 || map.dims() != first.dims() || map.dims()[2] != map.dims()[3] {
            return Err(Error::shape("an attention map", "(b, h, t, t), the same in every layer", map.dims()));
        }
    }
    let mut rolled = layer(first, options)?;
    for map in above {
        rolled = layer(map, options)?.matmul(&rolled)?;
    }
    Ok(rolled)
}

/// `(b,h,t,t) → (b,t,t)`: one layer's Ã, rows summing to one.
fn layer(map: &Tensor, options: &Rollout) -> Result<Tensor> {
    let fused = match options.fusion {
        HeadFusion::Mean => map.mean(1)?,
        HeadFusion::Max => map.max(1)?,
        HeadFusion::Min => map.min(1)?,
    };
    let kept = discard(&fused, options.discard)?;
    let t = kept.dim(D::Minus1)?;
    let with_residual = (kept.broadcast_add(&Tensor::eye(t, map.dtype(), map.device())?)? * 0.5)?;
    Ok(with_residual.broadcast_div(&with_residual.sum_keepdim(D::Minus1)?)?)
}

/// Sets the weakest share of each example's weights to zero, sparing the first.
fn discard(maps: &Tensor, share: f64) -> Result<Tensor> {
    let (b, t, _) = maps.dims3()?;
    let count = (t as f64 * t as f64 * share) as usize;
    if count == 0 {
        return Ok(maps.clone());
    }
    let mut rows = maps.reshape((b, t * t))?.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec2::<f64>()?;
    for row in &mut rows {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&i, &j| row[i].total_cmp(&row[j]));
        order[..count].iter().filter(|&&i| i != 0).for_each(|&i| row[i] = 0.0);
    }
    Ok(Tensor::new(rows, &Device::Cpu)?.reshape((b, t, t))?.to_dtype(maps.dtype())?.to_device(maps.device())?)
}
