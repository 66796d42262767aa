//! Explanations from taking features away, or shaking them, and looking again.

use candle_core::{Device, Tensor};

use crate::attribution::Attribution;
use crate::grad::values_of;
use crate::integrated_gradients::fitting;
use crate::path::same_space;
use crate::progress::Progress;
use crate::saliency::{Noise, noisy};
use crate::tensor::numbers;
use crate::{Error, Result};

/// Which elements of an input are taken away together. Groups may overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    shape: Vec<usize>,
    members: Vec<Vec<usize>>,
}

impl Groups {
    /// Every element by itself.
    pub fn elements(x: &Tensor) -> Self {
        Self { shape: x.dims().to_vec(), members: (0..x.elem_count()).map(|i| vec![i]).collect() }
    }

    /// Every row of the first axis: each token of a `(t,c)` input.
    pub fn rows(x: &Tensor) -> Self {
        let rows = x.dims().first().copied().unwrap_or(0);
        let width = x.elem_count() / rows.max(1);
        Self { shape: x.dims().to_vec(), members: (0..rows).map(|r| (r * width..(r + 1) * width).collect()).collect() }
    }

    /// Elements with the same id go together, ids in ascending order (Captum's `feature_mask`).
    ///
    /// Errors: not one id per element of x.
    pub fn from_ids(x: &Tensor, ids: &[usize]) -> Result<Self> {
        if ids.len() != x.elem_count() {
            return Err(Error::shape("the ids", format!("one id per element, {}", x.elem_count()), &[ids.len()]));
        }
        let mut groups = std::collections::BTreeMap::<usize, Vec<usize>>::new();
        ids.iter().enumerate().for_each(|(element, &id)| groups.entry(id).or_default().push(element));
        Ok(Self { shape: x.dims().to_vec(), members: groups.into_values().collect() })
    }

    /// Windows of a size sliding over x by a stride, along every axis; the last one of an axis may stick out and is cut.
    ///
    /// Errors: not one size and stride per axis; a stride of zero, or larger than its size, which would leave gaps.
    pub fn windows(x: &Tensor, size: &[usize], stride: &[usize]) -> Result<Self> {
        let rank = x.rank();
        let covers = size.iter().zip(stride).all(|(size, stride)| 0 < *stride && stride <= size);
        if size.len() != rank || stride.len() != rank || !covers {
            let wanted = format!("{rank} sizes and {rank} strides, strides at least 1 and no larger than the sizes");
            return Err(Error::argument(format!(
                "a window over {:?} needs {wanted}; got {size:?}, {stride:?}",
                x.dims()
            )));
        }
        let mut members = vec![vec![0]];
        for (axis, &len) in x.dims().iter().enumerate() {
            let last = len.saturating_sub(size[axis]).div_ceil(stride[axis]);
            let spans: Vec<_> =
                (0..=last).map(|w| w * stride[axis]..(w * stride[axis] + size[axis]).min(len)).collect();
            let widen = |window: &Vec<usize>| -> Vec<Vec<usize>> {
                let along = |span: &std::ops::Range<usize>| {
                    window.iter().flat_map(|&start| span.clone().map(move |i| start * len + i)).collect()
                };
                spans.iter().map(along).collect()
            };
            members = members.iter().flat_map(widen).collect();
        }
        Ok(Self { shape: x.dims().to_vec(), members })
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// One score per group → one per element: the mean over the groups it belongs to, 0 for none.
    ///
    /// Errors: not one score per group.
    pub fn spread(&self, scores: &[f64]) -> Result<Vec<f64>> {
        if scores.len() != self.len() {
            return Err(Error::shape("the scores", format!("({},), one per group", self.len()), &[scores.len()]));
        }
        let mut totals = vec![(0.0, 0usize); self.shape.iter().product()];
        for (group, score) in self.members.iter().zip(scores) {
            for &element in group {
                totals[element].0 += score;
                totals[element].1 += 1;
            }
        }
        Ok(totals.into_iter().map(|(total, count)| total / count.max(1) as f64).collect())
    }

    /// 1 where an element belongs to group g, for the groups of a range: `(g,…)`.
    fn masks(&self, range: std::ops::Range<usize>) -> Result<Tensor> {
        let size: usize = self.shape.iter().product();
        let mut masks = vec![0u8; range.len() * size];
        for (mask, group) in masks.chunks_mut(size.max(1)).zip(&self.members[range.clone()]) {
            group.iter().for_each(|&element| mask[element] = 1);
        }
        let mut shape = vec![range.len()];
        shape.extend(&self.shape);
        Ok(Tensor::from_vec(masks, shape, &Device::Cpu)?)
    }
}

/// `f: (n,…) → (n,)`, x `(…)`, x′ `(…)` → `(g,)`: f(x) − f(x with group g ← x′), for every group, in batches.
///
/// Positive: without it f falls, so the group supports the target.
///
/// Errors: shapes that differ; f's output is not one finite number per row.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64, 2.0, 3.0], &Device::Cpu)?;
/// let drops = ablate(|x| Ok(x.sum(1)?), &x, &x.zeros_like()?, &Groups::elements(&x))?;
/// assert_eq!(drops.to_vec1::<f64>()?, [1.0, 2.0, 3.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn ablate(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, baseline: &Tensor, groups: &Groups) -> Result<Tensor> {
    drops(&f, x, baseline, groups)
}

fn drops(f: &dyn Fn(&Tensor) -> Result<Tensor>, x: &Tensor, baseline: &Tensor, groups: &Groups) -> Result<Tensor> {
    same_space(x, baseline)?;
    if groups.shape != x.dims() || groups.is_empty() {
        return Err(Error::shape("the groups", format!("at least one group over {:?}", x.dims()), &groups.shape));
    }
    let whole = numbers(&values_of(f, &x.unsqueeze(0)?)?)?[0];
    let mut progress = Progress::new("ablation, groups", groups.len());
    let (chunk, mut drops) = (fitting(x), Vec::with_capacity(groups.len()));
    for start in (0..groups.len()).step_by(chunk) {
        let masks = groups.masks(start..(start + chunk).min(groups.len()))?.to_device(x.device())?;
        let ablated = masks.where_cond(&baseline.broadcast_as(masks.shape())?, &x.broadcast_as(masks.shape())?)?;
        let values = numbers(&values_of(f, &ablated)?)?;
        progress.advance(values.len());
        drops.extend(values.into_iter().map(|value| whole - value));
    }
    Ok(Tensor::new(drops, &Device::Cpu)?)
}

/// `f: (n,…) → (n,)`, x, x′ → one score per group: f(x) − f(x with the group ← x′).
///
/// Errors: those of [`ablate`].
///
/// **When it misleads**: a feature that has a substitute scores 0, as does its substitute; and text with a hole is
/// text the model never saw.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[[1.0f64, 2.0], [3.0, 4.0]], &Device::Cpu)?;               // two tokens, two channels
/// let drop = feature_ablation(|x| Ok(x.sum((1, 2))?), &x, &x.zeros_like()?, &Groups::rows(&x))?;
/// assert_eq!(drop.scores, [3.0, 7.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn feature_ablation(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    groups: &Groups,
) -> Result<Attribution> {
    Attribution::of_elements("feature ablation", &drops(&f, x, baseline, groups)?)
}

/// `f: (n,…) → (n,)`, x, x′ → one score per element: the mean of f(x) − f(x with a window ← x′) over the sliding windows
/// that cover it (Zeiler & Fergus 2014, arXiv 1311.2901, §4.2).
///
/// Errors: those of [`ablate`] and [`Groups::windows`].
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64, 2.0, 3.0], &Device::Cpu)?;
/// let scores = occlusion(|x| Ok(x.sum(1)?), &x, &x.zeros_like()?, &[2], &[1])?.scores;
/// assert_eq!(scores, [3.0, 4.0, 5.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn occlusion(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    window: &[usize],
    stride: &[usize],
) -> Result<Attribution> {
    let groups = Groups::windows(x, window, stride)?;
    let scores = groups.spread(&numbers(&drops(&f, x, baseline, &groups)?)?)?;
    let attribution = Attribution::of_elements("occlusion", &Tensor::from_vec(scores, x.dims(), &Device::Cpu)?)?;
    Ok(attribution.setting("window", format!("{window:?}")).setting("stride", format!("{stride:?}")))
}

/// `f: (n,t,…) → (n,)`, x `(t,…)` → `(t,)`: the standard deviation of f when noise N(0, σ²) shakes one row at a time.
///
/// Unsigned: it says where f is fragile, not which way a token pulls. The deviation is the sample's, Σ(f − mean)²/(m − 1)
/// over m draws.
///
/// Errors: fewer than two draws; a negative σ; f's output is not one finite number per row.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::zeros((2, 1), DType::F64, &Device::Cpu)?;
/// let ten_times_the_second = |x: &Tensor| Ok((x.narrow(1, 0, 1)? + (x.narrow(1, 1, 1)? * 10.0)?)?.sum((1, 2))?);
/// let shaken = embedding_sensitivity(ten_times_the_second, &x, &Noise::new(0.1, 200, 0))?;
/// assert!(shaken.scores[1] > 8.0 * shaken.scores[0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn embedding_sensitivity(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, noise: &Noise) -> Result<Attribution> {
    sensitivity(&f, x, noise)
}

fn sensitivity(f: &dyn Fn(&Tensor) -> Result<Tensor>, x: &Tensor, noise: &Noise) -> Result<Attribution> {
    let mut rng = noise.rng()?;
    if noise.draws < 2 {
        return Err(Error::argument("a standard deviation needs at least two draws"));
    }
    let rows = x.dims().first().copied().unwrap_or(0);
    let mut progress = Progress::new("embedding sensitivity, rows", rows);
    let mut scores = Vec::with_capacity(rows);
    for row in 0..rows {
        let draws = noise.draw(&mut rng, &x.narrow(0, row, 1)?, noise.draws)?;
        scores.push(deviation(&shaken(f, x, row, &draws)?));
        progress.advance(1);
    }
    noisy("embedding sensitivity", &Tensor::new(scores, &Device::Cpu)?, noise)
}

/// f's values with each draw `(m,1,…)` added to one row of x.
fn shaken(f: &dyn Fn(&Tensor) -> Result<Tensor>, x: &Tensor, row: usize, draws: &Tensor) -> Result<Vec<f64>> {
    let (below, above) = (row, x.dims()[0] - row - 1);
    let (chunk, total) = (fitting(x), draws.dims()[0]);
    let mut values = Vec::with_capacity(total);
    for start in (0..total).step_by(chunk) {
        let moves = draws.narrow(0, start, chunk.min(total - start))?.pad_with_zeros(1, below, above)?;
        values.extend(numbers(&values_of(f, &moves.broadcast_add(x)?)?)?);
    }
    Ok(values)
}

/// The sample's standard deviation.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
}
