//! Attention rollout: R = Ã_L ⋯ Ã₁, with Ã = ½(A + I).
//!
//! Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, 2020, arXiv 2005.00928, eq. 1.

use candle_core::{D, DType, Device, Tensor};

use crate::patterns::{bidirectional, no_layers};
use crate::tensor::of_each;
use crate::{Error, Result};

/// How a layer's heads become one map.
///
/// ```
/// # use pellucid::prelude::*;
/// let heads = Tensor::new(&[[[[1.0f64, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]], &Device::Cpu)?; // (1,h,t,t)
/// let row = |fusion| -> Result<Vec<f64>> {
///     Ok(rollout(&[heads.clone()], &Rollout { fusion, ..Rollout::default() })?.i((0, 0))?.to_vec1()?)
/// };
/// assert_eq!(row(HeadFusion::Mean)?, [0.75, 0.25]);    // ½(½ + 1), ½·½
/// assert_eq!(row(HeadFusion::Min)?, [1.0, 0.0]);       // the heads agree on nothing
/// # Ok::<(), pellucid::Error>(())
/// ```
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

impl HeadFusion {
    /// `(b,h,t,t) → (b,t,t)`.
    fn fuse(self, maps: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Mean => mean(maps)?,
            Self::Max => maps.max(1)?,
            Self::Min => maps.min(1)?,
        })
    }
}

/// `(b,h,t,t) → (b,t,t)`: the mean over heads as a matrix product, (1/h, …, 1/h)·A, for candle adds up along an inner axis
/// one number at a time.
pub(crate) fn mean(maps: &Tensor) -> Result<Tensor> {
    let (b, h, t, keys) = maps.dims4()?;
    let weights = (Tensor::ones((b, 1, h), maps.dtype(), maps.device())? / h as f64)?;
    Ok(weights.matmul(&maps.contiguous()?.reshape((b, h, t * keys))?)?.reshape((b, t, keys))?)
}

/// How attention maps are rolled out.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let patterns = bert.attention(&text)?;
/// let upper = rollout(&patterns, &Rollout { start_layer: 1, ..Rollout::default() })?;
/// assert_eq!(upper.to_vec3::<f32>()?, rollout(&patterns[1..], &Rollout::default())?.to_vec3::<f32>()?);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rollout {
    /// How a layer's heads become one map. With `Max` and `Min` rows no longer sum to one before the residual is added, and
    /// its share after it is less, or more, than half.
    pub fusion: HeadFusion,
    /// The share of each map's weakest weights that is set to zero before the residual is added; 0 keeps all, as the paper.
    pub discard: f64,
    /// The layers below this one are left out; 0 leaves none out, as the paper.
    pub start_layer: usize,
}

impl Rollout {
    /// The layers to roll out.
    pub(crate) fn layers<'a>(&self, maps: &'a [Tensor]) -> Result<&'a [Tensor]> {
        match maps.get(self.start_layer..) {
            _ if !(0.0..1.0).contains(&self.discard) => {
                Err(Error::argument(format!("`discard` is a share in [0, 1), got {}", self.discard)))
            }
            None | Some([]) => Err(Error::out_of_range("`start_layer`", self.start_layer, maps.len())),
            Some(layers) => Ok(layers),
        }
    }

    /// The same, fused.
    pub(crate) fn fused(&self, maps: &[Tensor]) -> Result<Vec<Tensor>> {
        of_each(self.layers(maps)?, |map| self.fuse(map))
    }

    /// `(b,h,t,t) → (b,t,t)`: one map of all heads, without what is negative (which only gradients bring) and without its
    /// weakest weights.
    pub(crate) fn fuse(&self, map: &Tensor) -> Result<Tensor> {
        discard(&self.fusion.fuse(map)?.relu()?, self.discard)
    }
}

/// `L × (b,h,t,t) → (b,t,t)`: how much of each input token arrives at each position of the last layer.
///
/// Per layer, heads are fused, the weakest `⌊t²·discard⌋` weights set to zero (the very first, class to class, is spared),
/// the residual connection added as ½(A + I), rows divided by their sums, and layers multiplied, last on the left. Rows
/// therefore sum to one; half precision is added up in `f32`.
///
/// The paper's raw attention, which it compares with, is a line of your own: `attention[layer].mean(1)?`.
///
/// Errors: no maps; maps that are not `(b,h,t,t)` of one size; rows that do not sum to one; causal maps, which are for
/// [`causal_rollout`](crate::causal_rollout()); `discard` outside `[0, 1)`; no layer left above `start_layer`.
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
    product(&mixing(attention, options)?)
}

/// `L × (b,h,t,t) → L × (b,t,t)`: the rollout up to every level, Ã₁, Ã₂Ã₁, …, the last being [`rollout`]. Level 0 is that of
/// `start_layer`.
///
/// Errors and caveats: those of [`rollout`].
///
/// ```
/// # use pellucid::prelude::*;
/// let uniform = Tensor::full(0.5f64, (1, 1, 2, 2), &Device::Cpu)?;
/// let levels = rollout_levels(&[uniform.clone(), uniform], &Rollout::default())?;
/// assert_eq!(levels[0].to_vec3::<f64>()?, [[[0.75, 0.25], [0.25, 0.75]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn rollout_levels(attention: &[Tensor], options: &Rollout) -> Result<Vec<Tensor>> {
    levels(&mixing(attention, options)?)
}

/// `L × (b,h,t,t) → (b,h,t,t)`: Ã_{L,h}·Ã_{L−1} ⋯ Ã₁, what each head of the last layer brings if it were alone there.
///
/// With mean fusion and nothing discarded, the mean over heads is [`rollout`].
///
/// Errors and caveats: those of [`rollout`].
///
/// ```
/// # use pellucid::prelude::*;
/// let (here, there) = ([[1.0f64, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]);
/// let attention = Tensor::new(&[[here, there]], &Device::Cpu)?;
/// let heads = rollout_heads(&[attention], &Rollout::default())?;
/// assert_eq!(heads.i((0, 0))?.to_vec2::<f64>()?, [[1.0, 0.0], [0.0, 1.0]]);
/// assert_eq!(heads.i((0, 1))?.to_vec2::<f64>()?, [[0.5, 0.5], [0.5, 0.5]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn rollout_heads(attention: &[Tensor], options: &Rollout) -> Result<Tensor> {
    let maps = bidirectional(attention)?;
    let (top, below) = options.layers(&maps)?.split_last().ok_or_else(no_layers)?;
    let (b, h, t, _) = top.dims4()?;
    let heads = with_residual(&options.fuse(&top.reshape((b * h, 1, t, t))?)?)?;
    let rolled = match below {
        [] => heads,
        below => heads.reshape((b, h * t, t))?.matmul(&product(&mixed(below, options)?)?)?,
    };
    Ok(rolled.reshape((b, h, t, t))?)
}

/// `L × (b,h,t,t)`, readout `(t,)` → `(b,t)`: readout·Ã_L ⋯ Ã₁, multiplied from the left, so that no product of two maps is
/// ever made: O(L·t²) and not O(L·t³).
///
/// The readout says how the model reads its last layer: 1 at the class token, 0 elsewhere; ½ and ½ at the two of a distilled
/// DeiT; 1/t everywhere where it takes the mean. It equals readout·[`rollout`].
///
/// Errors and caveats: those of [`rollout`]; a readout that is not one number per token.
///
/// ```
/// # use pellucid::prelude::*;
/// let uniform = Tensor::full(0.5f64, (1, 1, 2, 2), &Device::Cpu)?;
/// let class = Tensor::new(&[1.0f64, 0.0], &Device::Cpu)?;
/// let row = rollout_row(&[uniform.clone(), uniform], &class, &Rollout::default())?;
/// assert_eq!(row.to_vec2::<f64>()?, [[0.625, 0.375]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn rollout_row(attention: &[Tensor], readout: &Tensor, options: &Rollout) -> Result<Tensor> {
    let layers = options.fused(&bidirectional(attention)?)?;
    let (b, t, _) = layers[0].dims3()?;
    if readout.dims() != [t] {
        return Err(Error::shape("the readout", format!("({t},), one number per token"), readout.dims()));
    }
    let readout = readout.to_dtype(layers[0].dtype())?.to_device(layers[0].device())?;
    let mut row = readout.broadcast_as((b, 1, t))?.contiguous()?;
    for layer in layers.iter().rev() {
        row = carried(&row, layer)?;
    }
    Ok(row.squeeze(1)?)
}

/// `(b,1,t)`, F `(b,t,t)` → row·Ã, with Ã = ½(F + I) and its rows divided by their sums, which is never made.
fn carried(row: &Tensor, fused: &Tensor) -> Result<Tensor> {
    let sums = ((fused.sum(D::Minus1)? + 1.0)? * 0.5)?.unsqueeze(1)?;
    let shares = (row / sums)?;
    Ok(((shares.matmul(fused)? + &shares)? * 0.5)?)
}

/// Ã of every layer from `start_layer` on, `(b,t,t)` each, rows summing to one.
pub(crate) fn mixing(attention: &[Tensor], options: &Rollout) -> Result<Vec<Tensor>> {
    mixed(options.layers(&bidirectional(attention)?)?, options)
}

/// Ã of these layers, whichever they are.
pub(crate) fn mixed(maps: &[Tensor], options: &Rollout) -> Result<Vec<Tensor>> {
    of_each(maps, |map| with_residual(&options.fuse(map)?))
}

/// The products of the lowest, the two lowest, … layers, later ones on the left.
fn levels(layers: &[Tensor]) -> Result<Vec<Tensor>> {
    let (first, above) = layers.split_first().ok_or_else(no_layers)?;
    let mut levels = vec![first.clone()];
    for layer in above {
        levels.push(layer.matmul(&levels[levels.len() - 1])?);
    }
    Ok(levels)
}

/// The product of all layers, the last on the left.
pub(crate) fn product(layers: &[Tensor]) -> Result<Tensor> {
    levels(layers)?.pop().ok_or_else(no_layers)
}

/// `(b,t,t)`: ½(A + I), rows divided by their sums.
pub(crate) fn with_residual(map: &Tensor) -> Result<Tensor> {
    rows_to_one(&(map.broadcast_add(&identity(map)?)? * 0.5)?)
}

/// I `(t,t)`, as a map's.
pub(crate) fn identity(map: &Tensor) -> Result<Tensor> {
    Ok(Tensor::eye(map.dim(D::Minus1)?, map.dtype(), map.device())?)
}

/// Rows divided by their sums, which must not be zero.
pub(crate) fn rows_to_one(maps: &Tensor) -> Result<Tensor> {
    Ok(maps.broadcast_div(&maps.sum_keepdim(D::Minus1)?)?)
}

/// Sets the weakest share of each example's weights to zero, sparing the first.
fn discard(maps: &Tensor, share: f64) -> Result<Tensor> {
    let (b, t, _) = maps.dims3()?;
    let count = (t as f64 * t as f64 * share) as usize;
    if count == 0 {
        return Ok(maps.clone());
    }
    let mut rows = maps.reshape((b, t * t))?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    for row in &mut rows {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&i, &j| row[i].total_cmp(&row[j]));
        order[..count].iter().filter(|&&i| i != 0).for_each(|&i| row[i] = 0.0);
    }
    Ok(Tensor::new(rows, &Device::Cpu)?.reshape((b, t, t))?.to_dtype(maps.dtype())?.to_device(maps.device())?)
}
