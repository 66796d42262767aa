//! Explanations from taking features away, or shaking them, and looking again.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::attribution::Attribution;
use crate::model::presence;
use crate::outcomes::{Outcomes, batch};
use crate::path::same_space;
use crate::saliency::Noise;
use crate::{Error, Result};

/// Which elements of an input are taken away together. Groups may overlap.
///
/// ```
/// # use pellucid::prelude::*;
/// let picture = Tensor::ones((3, 4, 4), DType::F64, &Device::Cpu)?;
/// let squares = Groups::patches(&picture, 2)?;
/// let drops = ablate(|x| Ok(x.sum((1, 2, 3))?), &picture, &picture.zeros_like()?, &squares)?;
/// assert_eq!(drops.to_vec1::<f64>()?, [12.0; 4]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    shape: Vec<usize>,
    members: Vec<Vec<usize>>,
}

impl Groups {
    /// Every element by itself.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::zeros((2, 3), DType::F64, &Device::Cpu)?;
    /// assert_eq!(Groups::elements(&x).len(), 6);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn elements(x: &Tensor) -> Self {
        Self { shape: x.dims().to_vec(), members: (0..x.elem_count()).map(|i| vec![i]).collect() }
    }

    /// Every row of the first axis: each token of a `(t,c)` input.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::zeros((2, 3), DType::F64, &Device::Cpu)?;    // (t,c)
    /// assert_eq!(Groups::rows(&x).spread(&[1.0, 2.0])?, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn rows(x: &Tensor) -> Self {
        let rows = x.dims().first().copied().unwrap_or(0);
        let width = x.elem_count() / rows.max(1);
        Self { shape: x.dims().to_vec(), members: (0..rows).map(|r| (r * width..(r + 1) * width).collect()).collect() }
    }

    /// Several rows of the first axis together.
    pub(crate) fn of_rows(x: &Tensor, rows: &[Vec<usize>]) -> Self {
        let single = Self::rows(x);
        let members = rows.iter().map(|rows| rows.iter().flat_map(|&row| single.members[row].clone()).collect());
        Self { members: members.collect(), ..single }
    }

    /// Elements with the same id go together, ids in ascending order (Captum's `feature_mask`).
    ///
    /// Errors: not one id per element of x.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::zeros(4, DType::F64, &Device::Cpu)?;
    /// assert_eq!(Groups::from_ids(&x, &[7, 0, 7, 7])?.spread(&[1.0, 2.0])?, [2.0, 1.0, 2.0, 2.0]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
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
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::zeros(5, DType::F64, &Device::Cpu)?;
    /// let windows = Groups::windows(&x, &[3], &[2])?;    // 0 to 2, 2 to 4
    /// assert_eq!(windows.spread(&[1.0, 3.0])?, [1.0, 1.0, 2.0, 3.0, 3.0]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
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

    /// Squares of `size` by `size` pixels of a `(c,h,w)` picture, side by side, over all channels; those at the right and at
    /// the bottom may be cut.
    ///
    /// Errors: not `(c,h,w)`; a size of zero.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let picture = Tensor::zeros((3, 5, 4), DType::F64, &Device::Cpu)?;
    /// assert_eq!(Groups::patches(&picture, 2)?.len(), 3 * 2);    // the last row of squares is cut
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn patches(x: &Tensor, size: usize) -> Result<Self> {
        let &[channels, _, _] = x.dims() else {
            return Err(Error::shape("the picture", "(c, h, w)", x.dims()));
        };
        Self::windows(x, &[channels, size, size], &[channels, size, size])
    }

    /// Segments of a `(c,h,w)` picture: pixels with the same id go together, over all channels, ids in ascending order. The
    /// ids may come from [`superpixels`](crate::superpixels), or be a mask of one's own: 1 where it lies, 0 elsewhere.
    ///
    /// Errors: not `(c,h,w)`; not one id per pixel, row by row.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let picture = Tensor::zeros((3, 1, 2), DType::F64, &Device::Cpu)?;
    /// let two = Groups::segments(&picture, &[0, 1])?;
    /// assert_eq!(two.spread(&[1.0, 2.0])?, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);    // in every channel
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn segments(x: &Tensor, ids: &[usize]) -> Result<Self> {
        match *x.dims() {
            [channels, height, width] if ids.len() == height * width => Self::from_ids(x, &ids.repeat(channels)),
            [_, height, width] => {
                let wanted = format!("({},), one per pixel of {height} rows and {width} columns", height * width);
                Err(Error::shape("the ids", wanted, &[ids.len()]))
            }
            _ => Err(Error::shape("the picture", "(c, h, w)", x.dims())),
        }
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
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::zeros(3, DType::F64, &Device::Cpu)?;
    /// let overlapping = Groups::windows(&x, &[2], &[1])?;
    /// assert_eq!(overlapping.spread(&[2.0, 4.0])?, [2.0, 3.0, 4.0]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
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

    /// One score per group → one per element: each group's divided evenly among its elements, so that the sum stays.
    pub(crate) fn divided(&self, scores: &[f64]) -> Vec<f64> {
        let mut shares = vec![0.0; self.shape.iter().product()];
        for (group, score) in self.members.iter().zip(scores) {
            group.iter().for_each(|&element| shares[element] += score / group.len() as f64);
        }
        shares
    }

    /// The shape of the tensor whose elements are grouped.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Errors if an element belongs to two groups, for methods that would not know whose it is.
    pub(crate) fn disjoint(&self) -> Result<()> {
        let mut taken = vec![false; self.shape.iter().product()];
        match self.members.iter().flatten().find(|&&element| std::mem::replace(&mut taken[element], true)) {
            None => Ok(()),
            Some(element) => Err(Error::argument(format!(
                "element {element} belongs to two groups; players of a game must be apart"
            ))),
        }
    }

    /// The elements of a group.
    pub(crate) fn members(&self, group: usize) -> &[usize] {
        &self.members[group]
    }
}

/// `f: (n,…) → (n,)` or `(n,o)`, x `(…)`, x′ `(…)` → `(g,)` or `(g,o)`: f(x) − f(x with group g ← x′), for every group, in
/// batches.
///
/// Positive: without it f falls, so the group supports the target.
///
/// Errors: shapes that differ; x has no elements; f's output is not one finite number per row and output.
///
/// **When it misleads**: as [`feature_ablation`], which makes an [`Attribution`] of it.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64, 2.0, 3.0], &Device::Cpu)?;
/// let drops = ablate(|x| Ok(x.sum(1)?), &x, &x.zeros_like()?, &Groups::elements(&x))?;
/// assert_eq!(drops.to_vec1::<f64>()?, [1.0, 2.0, 3.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn ablate(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, baseline: &Tensor, groups: &Groups) -> Result<Tensor> {
    let outcomes = without(&f, x, baseline, groups)?;
    let drops: Vec<f64> = outcomes.columns().iter().flat_map(|column| drops(column)).collect();
    let drops = Tensor::from_vec(drops, (outcomes.columns().len(), groups.len()), &Device::Cpu)?;
    Ok(if outcomes.several() { drops.t()?.contiguous()? } else { drops.squeeze(0)? })
}

/// x `(…)`, x′ `(…)`, which groups are present `(n,g)`, ones and zeros → `(n,…)`: x with the groups that are not present ← x′.
///
/// It makes a function of what is present, as [`Vit::logits_with`](crate::model::Vit::logits_with) and its like are, of any
/// function of x. Where groups overlap, an element is x′'s if any of its groups is not present.
///
/// Errors: shapes that differ; groups over something else; numbers in `present` other than 0 and 1.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[[1.0f64, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let present = Tensor::new(&[[1.0f64, 0.0]], &Device::Cpu)?;
/// let without = replace_absent(&x, &x.zeros_like()?, &Groups::rows(&x), &present)?;
/// assert_eq!(without.to_vec3::<f64>()?, [[[1.0, 2.0], [0.0, 0.0]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
///
/// A text whose absent tokens are `[MASK]`:
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let (x, masked) = (bert.embed(&text)?, bert.baseline(&text, &Baseline::token("[MASK]"))?);
/// let f = |present: &Tensor| bert.logits(&text, &replace_absent(&x, &masked, &Groups::rows(&x), present)?);
/// assert_eq!(f(&Tensor::ones((4, text.len()), DType::F64, &Device::Cpu)?)?.dims(), [4, 2]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn replace_absent(x: &Tensor, baseline: &Tensor, groups: &Groups, present: &Tensor) -> Result<Tensor> {
    same_space(x, baseline)?;
    fit(x, groups)?;
    let present = presence(present, groups.len())?;
    mixed(x, baseline, 0..present.len(), &|mask, variant| {
        let absent = groups.members.iter().zip(&present[variant]).filter(|(_, present)| !**present);
        absent.flat_map(|(group, _)| group).for_each(|&element| mask[element] = 1);
    })
}

/// f at x, and then at x without each group.
fn without(f: &dyn Fn(&Tensor) -> Result<Tensor>, x: &Tensor, baseline: &Tensor, groups: &Groups) -> Result<Outcomes> {
    let absent = |mask: &mut [u8], variant: usize| {
        if variant > 0 {
            groups.members[variant - 1].iter().for_each(|&element| mask[element] = 1);
        }
    };
    mixtures(f, "ablation, groups", x, baseline, groups, groups.len() + 1, &absent)
}

/// f at `count` mixtures of x and x′: `absent` marks the elements of each that are taken from x′.
pub(crate) fn mixtures(
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    what: &str,
    x: &Tensor,
    baseline: &Tensor,
    groups: &Groups,
    count: usize,
    absent: &dyn Fn(&mut [u8], usize),
) -> Result<Outcomes> {
    same_space(x, baseline)?;
    fit(x, groups)?;
    Outcomes::of(f, what, count, batch(x), &|range| mixed(x, baseline, range, absent))
}

/// Errors unless there is something in x, and groups of it.
fn fit(x: &Tensor, groups: &Groups) -> Result<()> {
    if x.elem_count() == 0 {
        return Err(Error::argument(format!("x, {:?}, has no elements, so there is nothing to take away", x.dims())));
    }
    match groups.shape == x.dims() && !groups.is_empty() {
        true => Ok(()),
        false => Err(Error::shape("the groups", format!("at least one group over {:?}", x.dims()), &groups.shape)),
    }
}

/// Some mixtures of x and x′, `(n,…)`.
fn mixed(x: &Tensor, baseline: &Tensor, some: Range<usize>, absent: &dyn Fn(&mut [u8], usize)) -> Result<Tensor> {
    let mut masks = vec![0u8; some.len() * x.elem_count()];
    masks.chunks_mut(x.elem_count()).zip(some.clone()).for_each(|(mask, variant)| absent(mask, variant));
    let masks = Tensor::from_vec(masks, [&[some.len()], x.dims()].concat(), &Device::Cpu)?.to_device(x.device())?;
    Ok(masks.where_cond(&baseline.broadcast_as(masks.shape())?, &x.broadcast_as(masks.shape())?)?)
}

/// By how much f falls from its first value to each of the others.
fn drops(values: &[f64]) -> Vec<f64> {
    values[1..].iter().map(|value| values[0] - value).collect()
}

/// `f: (n,…) → (n,)` or `(n,o)`, x, x′ → one score per group: f(x) − f(x with the group ← x′).
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
///
/// A picture is cut into squares, into superpixels, or along a mask of one's own; the scores go back onto its pixels with
/// [`Attribution::over_segments`]:
///
/// ```
/// # use pellucid::prelude::*;
/// let cup = pellucid::zoo::photo("coffee")?;
/// let (x, ids) = (cup.pixels()?, superpixels(&cup, 20)?);
/// let left: Vec<usize> = (0..ids.len()).map(|pixel| usize::from(pixel % cup.width() < 200)).collect();
/// let black = pellucid::baseline::flat(&x, 0.0)?;
/// let redness = |x: &Tensor| Ok(x.narrow(1, 0, 1)?.mean((1, 2, 3))?);
/// for groups in [Groups::patches(&x, 100)?, Groups::segments(&x, &ids)?, Groups::segments(&x, &left)?] {
///     let drop = feature_ablation(redness, &x, &black, &groups)?;
///     assert!((drop.clone().over_segments(&groups)?.sum() - drop.sum()).abs() < 1e-9);
/// }
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn feature_ablation(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    groups: &Groups,
) -> Result<Attribution> {
    let outcomes = without(&f, x, baseline, groups)?;
    outcomes.explain("feature ablation", &[groups.len()], &|values| Ok(drops(values)))
}

/// `f: (n,…) → (n,)` or `(n,o)`, x, x′ → one score per element: the mean of f(x) − f(x with a window ← x′) over the sliding windows
/// that cover it (Zeiler & Fergus 2014, arXiv 1311.2901, §4.2).
///
/// Errors: those of [`ablate`] and [`Groups::windows`].
///
/// **When it misleads**: the window's size decides: a smaller one finds nothing where what matters is said twice, a larger one
/// smears it. And the window's edge is something that the model may see.
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
    let outcomes = without(&f, x, baseline, &groups)?;
    let attribution = outcomes.explain("occlusion", x.dims(), &|values| groups.spread(&drops(values)))?;
    Ok(attribution.setting("window", format!("{window:?}")).setting("stride", format!("{stride:?}")))
}

/// `f: (n,t,…) → (n,)` or `(n,o)`, x `(t,…)` → `(t,)`: the standard deviation of f when noise N(0, σ²) shakes one row at a time.
///
/// Unsigned: it says where f is fragile, not which way a token pulls. The deviation is the sample's, Σ(f − mean)²/(m − 1)
/// over m draws.
///
/// Errors: fewer than two draws; a negative σ; f's output is not one finite number per row.
///
/// **When it misleads**: the same noise is small for a long embedding and large for a short one, and most of what it reaches is
/// no word's; a row on which f rests but is flat scores 0.
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
    if rows == 0 {
        return Err(Error::shape("x", "(t, …), t at least 1", x.dims()));
    }
    let draws: Vec<Tensor> =
        (0..rows).map(|row| noise.draw(&mut rng, &x.narrow(0, row, 1)?, noise.draws)).collect::<Result<_>>()?;
    let shaken = |range: Range<usize>| {
        let one = |variant: usize| {
            let (row, draw) = (variant / noise.draws, variant % noise.draws);
            Ok((draws[row].get(draw)?.pad_with_zeros(0, row, rows - row - 1)? + x)?)
        };
        Ok(Tensor::stack(&range.map(one).collect::<Result<Vec<_>>>()?, 0)?)
    };
    let outcomes = Outcomes::of(f, "embedding sensitivity, draws", rows * noise.draws, batch(x), &shaken)?;
    let deviations = |values: &[f64]| Ok(values.chunks(noise.draws).map(deviation).collect());
    Ok(noise.note(outcomes.explain("embedding sensitivity", &[rows], &deviations)?))
}

/// The sample's standard deviation.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
}
