//! Softmax attention over packed queries, keys and values.

use std::borrow::Cow;
use std::ops::Range;

use candle_core::{D, DType, Device, Tensor};
use faer::MatRef;
use rayon::prelude::*;

use super::matrix::{Cores, Real, matmul, matrix};
use super::stage::{Block, Rows, Shape, Tape, View, view};
use super::{greatest, simd, sum};
use crate::model::presence::places;
use crate::model::rules::Product;
use crate::tensor::at_least_single;
use crate::{Error, Result};

/// `(n,t,(h+2k)·d) → (n,t,h·d)`: per head, A = softmax(q·Kᵀ/√d), y = A·V (Vaswani et al. 2017, arXiv 1706.03762, eq. 1).
///
/// Its input holds h queries, k keys and k values of each token side by side, as one stacked [`Linear`](super::Linear)
/// yields them; with k < h, every key and value serves h/k queries (Ainslie et al. 2023, arXiv 2305.13245). Keys that the
/// text's mask hides get no weight, and in causal attention neither do later ones. K and V begin with those of the
/// tokens before, if there are any. A [bias](Self::biased) is added to q·Kᵀ/√d.
///
/// The backward, with Ā = ȳ·Vᵀ and S̄ = A∘(Ā − rowsum(A∘Ā))/√d (A is worked out again where a text is so long that keeping it
/// would take much memory):
///
/// q̄ = S̄·K, K̄ = S̄ᵀ·q, V̄ = Aᵀ·ȳ;
///
/// with the pattern frozen, V̄ = Aᵀ·ȳ alone, and q̄ = K̄ = 0 ([`Rules::attention`](crate::model::Rules::attention)); halved, ½
/// of V̄ and of Ā, and where scores are halved too ([`Rules::score`](crate::model::Rules::score)) a quarter of q̄ and K̄.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Attention, Chain, Stage};
/// let qkv = Tensor::new(&[[[0.0f64, 1.0, 10.0], [0.0, 5.0, 20.0]]], &Device::Cpu)?;    // two tokens: q, k, v of one channel
/// let mixed = |attention| -> Result<Tensor> {
///     Chain::new(vec![Stage::Attention(attention, Site::Pattern(0))]).forward(&qkv, None, &mut Clear)
/// };
/// assert_eq!(mixed(Attention::new(1)?)?.to_vec3::<f64>()?, [[[15.0], [15.0]]]);        // q = 0 looks everywhere alike
/// assert_eq!(mixed(Attention::causal(1, 1)?)?.to_vec3::<f64>()?, [[[10.0], [15.0]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Attention {
    heads: usize,
    kv_heads: usize,
    causal: bool,
    windowed: bool,
    /// What is added to scores, `(h,t,t)`.
    bias: Option<Tensor>,
}

impl Attention {
    /// Bidirectional attention with `heads` heads.
    ///
    /// Errors: no heads.
    pub fn new(heads: usize) -> Result<Self> {
        if heads == 0 { Err(Error::argument("attention needs at least one head")) } else { Ok(Self::of(heads, heads)) }
    }

    /// Causal attention with `heads` query heads over `kv_heads` key and value heads.
    ///
    /// Errors: no heads; query heads that cannot be shared out over the key heads.
    pub fn causal(heads: usize, kv_heads: usize) -> Result<Self> {
        match heads > 0 && kv_heads > 0 && heads.is_multiple_of(kv_heads) {
            true => Ok(Self { causal: true, ..Self::of(heads, kv_heads) }),
            false => Err(Error::argument(format!(
                "{heads} query heads cannot be shared out evenly over {kv_heads} key and value heads"
            ))),
        }
    }

    fn of(heads: usize, kv_heads: usize) -> Self {
        Self { heads, kv_heads, causal: false, windowed: false, bias: None }
    }

    /// The same within each window of tokens by itself, where a pass has windows (Liu et al. 2021, arXiv 2103.14030, §3.2).
    pub fn in_windows(self) -> Self {
        Self { windowed: true, ..self }
    }

    /// The same with a constant added to every head's scores, `(h,t,t)`: what a pair of tokens has for standing where they do (Shaw
    /// et al. 2018, arXiv 1803.02155; for pictures Bao et al. 2022, arXiv 2106.08254). It serves passes of t tokens without a past.
    ///
    /// Errors: another number of heads; not square.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::blocks::{Attention, Chain, Stage};
    /// let each_for_itself = Tensor::new(&[[[0.0f64, -1e9], [-1e9, 0.0]]], &Device::Cpu)?;
    /// let attention = Attention::new(1)?.biased(each_for_itself)?;
    /// let qkv = Tensor::new(&[[[0.0f64, 1.0, 10.0], [0.0, 5.0, 20.0]]], &Device::Cpu)?;    // two tokens: q, k, v of one channel
    /// let mixed = Chain::new(vec![Stage::Attention(attention, Site::Pattern(0))]).forward(&qkv, None, &mut Clear)?;
    /// assert_eq!(mixed.to_vec3::<f64>()?, [[[10.0], [20.0]]]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn biased(self, bias: Tensor) -> Result<Self> {
        match *bias.dims() {
            [h, t, keys] if h == self.heads && t == keys => Ok(Self { bias: Some(bias.contiguous()?), ..self }),
            _ => Err(Error::shape("the bias of scores", format!("({}, t, t)", self.heads), bias.dims())),
        }
    }

    /// The same for those tokens that are kept.
    pub(super) fn keeping(&self, kept: &[bool]) -> Result<Self> {
        let Some(bias) = &self.bias else { return Ok(self.clone()) };
        let places = Tensor::new(places(kept), bias.device())?;
        self.clone().biased(bias.index_select(&places, 1)?.index_select(&places, 2)?)
    }

    /// The bias, if there is one.
    ///
    /// Errors: it is of another number of tokens; there is a past.
    fn bias_for(&self, shape: &Shape) -> candle_core::Result<Option<&Tensor>> {
        let (t, past) = (shape.tokens, shape.first_position());
        match &self.bias {
            Some(bias) if past > 0 || bias.dims()[1] != t => candle_core::bail!(
                "this attention's scores have a bias for {} tokens, and it was given {t} after {past}: use a picture of the model's size",
                bias.dims()[1]
            ),
            bias => Ok(bias.as_ref()),
        }
    }

    /// Whether tokens of other windows are hidden.
    pub(super) fn has_windows(&self, shape: &Shape) -> bool {
        self.windowed && shape.windows.is_some()
    }

    /// Windows of one length in a row, as examples of their own: the first row of each such run, and its shape.
    fn runs(&self, shape: &Shape) -> Option<Vec<(usize, Shape)>> {
        let windows = shape.windows.as_ref().filter(|_| self.windowed)?;
        let mut runs: Vec<(usize, Shape)> = Vec::new();
        let mut row = 0;
        for &tokens in (0..shape.examples).flat_map(|_| windows.iter()) {
            match runs.last_mut() {
                Some((_, run)) if run.tokens == tokens => run.examples += 1,
                _ => runs.push((row, Shape { examples: 1, tokens, windows: None, ..shape.clone() })),
            }
            row += tokens;
        }
        Some(runs)
    }

    /// How many parts of a head's width a token has: queries, keys and values.
    fn parts(&self) -> usize {
        self.heads + 2 * self.kv_heads
    }

    /// `(n,t,(h+2k)·d) → (n,h,t,p+t)`: A as [`pattern`](Self::pattern) has it, by hand-written kernels and without a gradient.
    pub(super) fn pattern_seen(&self, qkv: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        match qkv.dtype() {
            DType::F64 => self.each_pattern::<f64>(qkv, shape),
            _ => self.each_pattern::<f32>(qkv, shape),
        }
    }

    /// The heads shared out over the cores.
    fn each_pattern<T: Real>(&self, qkv: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let (qkv, keys) = (qkv.contiguous()?, shape.first_position() + shape.tokens);
        let (given, shape) = (&Given::of(self, shape)?, &shape.on_one_core());
        let numbers = &*view::<T>(&qkv)?;
        let mut patterns = vec![T::zero(); shape.examples * self.heads * shape.tokens * keys];
        patterns.par_chunks_mut(shape.tokens * keys).enumerate().for_each(|(number, pattern)| {
            let (head, row) = Head::new(self, shape, given, number);
            head.queries().pattern(numbers, row, pattern);
        });
        Tensor::from_vec(patterns, (shape.examples, self.heads, shape.tokens, keys), &Device::Cpu)
    }

    /// `(n,h,t,p+t)` and the packed values → `(n,t,h·d)`: A·V as [`mix`](Self::mix) has it, by hand-written kernels and without a
    /// gradient.
    pub(super) fn mix_seen(&self, pattern: &Tensor, qkv: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        match qkv.dtype() {
            DType::F64 => self.each_mix::<f64>(pattern, qkv, shape),
            _ => self.each_mix::<f32>(pattern, qkv, shape),
        }
    }

    /// The heads shared out over the cores.
    fn each_mix<T: Real>(&self, pattern: &Tensor, qkv: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let wanted = [shape.examples, self.heads, shape.tokens, shape.first_position() + shape.tokens];
        if pattern.dims() != wanted {
            candle_core::bail!("an attention pattern has shape {:?} here, expected {wanted:?}", pattern.dims())
        }
        let (qkv, pattern) = (qkv.contiguous()?, pattern.contiguous()?);
        let (numbers, pattern) = (view::<T>(&qkv)?, view::<T>(&pattern)?);
        let (numbers, pattern): (&[T], &[T]) = (&numbers, &pattern);
        let size = wanted[2] * wanted[3];
        let mixed = |head: Head<T>, row: usize, y: &mut [T]| {
            let number = row / shape.tokens * self.heads + head.q / head.d;
            head.queries().mix(&pattern[number * size..][..size], numbers, row, y, head.d);
        };
        let (y, _) = self.shared_heads(shape, mixed)?;
        Tensor::from_vec(y, (shape.examples, shape.tokens, shape.channels / self.parts() * self.heads), &Device::Cpu)
    }

    /// Whether every core serves the same example, and has enough to do with some of its heads.
    fn is_worth_sharing(&self, shape: &Shape) -> bool {
        const WORTH: usize = 1 << 15;
        let size = self.heads * shape.tokens * (shape.first_position() + shape.tokens);
        shape.cores == Cores::All && size >= WORTH
    }

    /// `(n,t,h·d)`: what `work` writes for every head, `(t,d)`, the heads shared out over the cores; and what it returns for each.
    fn shared_heads<T: Real, R: Send>(
        &self,
        shape: &Shape,
        work: impl Fn(Head<T>, usize, &mut [T]) -> R + Sync,
    ) -> candle_core::Result<(Rows<T>, Vec<R>)> {
        let (given, d) = (&Given::of(self, shape)?, shape.channels / self.parts());
        let shape = &shape.on_one_core();
        let of_head = |number: usize| {
            let (head, row) = Head::new(self, shape, given, number);
            let (start, mut y) = (head.q, vec![T::zero(); shape.tokens * d]);
            let returned = work(head, row, &mut y);
            ((start, y), returned)
        };
        let heads = (0..shape.examples * self.heads).into_par_iter().map(of_head);
        let (heads, returned): (Vec<_>, Vec<R>) = heads.unzip();
        let mut all = vec![T::zero(); shape.rows() * self.heads * d];
        all.par_chunks_mut(shape.tokens * self.heads * d).zip(heads.par_chunks(self.heads)).for_each(|(all, heads)| {
            for (start, y) in heads {
                for (token, y) in y.chunks_exact(d).enumerate() {
                    all[start + token * self.heads * d..][..d].copy_from_slice(y);
                }
            }
        });
        Ok((all, returned))
    }

    /// y = A·V of every head, and the patterns if they are to be kept.
    fn attend<T: Real>(&self, qkv: &[T], shape: &Shape) -> candle_core::Result<(Rows<T>, Vec<Rows<T>>)> {
        let width = shape.channels / self.parts() * self.heads;
        let (mut y, mut pattern, mut kept) = (vec![T::zero(); shape.rows() * width], Vec::new(), Vec::new());
        each_head::<T>(self, shape, |head, row| {
            pattern.resize(head.scores(), T::zero());
            head.attend(qkv, row, &mut y[row * width + head.q..], width, &mut pattern);
            if self.keeps_patterns(shape) {
                kept.push(std::mem::take(&mut pattern));
            }
        })?;
        Ok((y, kept))
    }

    /// The same, the heads shared out over the cores.
    fn attend_shared<T: Real>(&self, qkv: &[T], shape: &Shape) -> candle_core::Result<(Rows<T>, Vec<Rows<T>>)> {
        let attend = |head: Head<T>, row: usize, y: &mut [T]| {
            let head = head.without_hidden();
            let mut pattern = vec![T::zero(); head.scores()];
            head.attend(qkv, row, y, head.d, &mut pattern);
            self.keeps_patterns(shape).then_some(pattern)
        };
        let (y, patterns) = self.shared_heads(shape, attend)?;
        Ok((y, patterns.into_iter().flatten().collect()))
    }

    /// Whether every head's A is kept for the backward rather than worked out again: where it takes no more than a few times the
    /// room of q, k and v.
    fn keeps_patterns(&self, shape: &Shape) -> bool {
        const TIMES: usize = 4;
        shape.keep && self.heads * (shape.first_position() + shape.tokens) <= TIMES * shape.channels
    }

    /// The backward, key heads shared out over the cores: each with the queries that it serves.
    fn shared_slopes<T: Real>(
        &self,
        qkv: &[T],
        patterns: &[Rows<T>],
        dy: &[T],
        shape: &Shape,
    ) -> candle_core::Result<Rows<T>> {
        let (given, d, served) = (&Given::of(self, shape)?, shape.channels / self.parts(), self.heads / self.kv_heads);
        let (shape, width) = (&shape.on_one_core(), (served + 2) * d);
        let of_key = |number: usize| {
            let mut out = vec![T::zero(); shape.tokens * width];
            for query in 0..served {
                let number = number * served + query;
                let (head, row) = Head::new(self, shape, given, number);
                let pattern = patterns.get(number).map(Vec::as_slice);
                let mut slopes = Slopes { out: &mut out, width, q: query * d, k: served * d, v: (served + 1) * d };
                head.without_hidden().pull_back(qkv, dy, row, pattern, &mut slopes);
            }
            out
        };
        let keys: Vec<_> = (0..shape.examples * self.kv_heads).into_par_iter().map(of_key).collect();
        let mut all = vec![T::zero(); qkv.len()];
        let examples = all.par_chunks_mut(shape.tokens * shape.channels).zip(keys.par_chunks(self.kv_heads));
        examples.for_each(|(all, keys)| {
            for (key, out) in keys.iter().enumerate() {
                let starts = [key * served * d, (self.heads + key) * d, (self.heads + self.kv_heads + key) * d];
                for (row, out) in all.chunks_exact_mut(shape.channels).zip(out.chunks_exact(width)) {
                    let (q, kv) = out.split_at(served * d);
                    row[starts[0]..][..q.len()].copy_from_slice(q);
                    row[starts[1]..][..d].copy_from_slice(&kv[..d]);
                    row[starts[2]..][..d].copy_from_slice(&kv[d..]);
                }
            }
        });
        Ok(all)
    }

    /// `(n,t,(h+2k)·d) → (n,h,t,p+t)`: the attention pattern A, differentiable unless it is frozen.
    pub(super) fn pattern(&self, qkv: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let q = self.part(qkv, 0, self.heads)?;
        let k = self.with_past(qkv, self.heads, shape)?;
        let scale = 1.0 / (q.dim(D::Minus1)? as f64).sqrt();
        let scores = (shape.rules.score.of(&k, |k| q.matmul(&k.t()?))? * scale)?;
        let scores = match self.bias_for(shape)? {
            Some(bias) => scores.broadcast_add(bias)?,
            None => scores,
        };
        let scores = match self.hidden(qkv, shape)? {
            Some(hide) => scores.broadcast_add(&hide)?,
            None => scores,
        };
        let pattern = candle_nn::ops::softmax(&at_least_single(&scores)?, D::Minus1)?.to_dtype(qkv.dtype())?;
        Ok(shape.rules.attention.factor(&pattern))
    }

    /// `(n,h,t,p+t)` and the packed values → `(n,t,h·d)`: A·V, heads side by side.
    pub(super) fn mix(&self, pattern: &Tensor, qkv: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let v = self.with_past(qkv, self.heads + self.kv_heads, shape)?;
        shape.rules.attention.shared(&pattern.matmul(&v)?.transpose(1, 2)?.flatten_from(2)?)
    }

    /// `count` heads of the packed projections, from the one numbered `first`, as `(n,count,t,d)`.
    fn part(&self, qkv: &Tensor, first: usize, count: usize) -> candle_core::Result<Tensor> {
        let (n, t, width) = qkv.dims3()?;
        let d = width / self.parts();
        qkv.narrow(2, first * d, count * d)?.reshape((n, t, count, d))?.transpose(1, 2)?.contiguous()
    }

    /// Keys or values of all tokens so far, each repeated for the queries it serves, `(n,h,p+t,d)`.
    fn with_past(&self, qkv: &Tensor, first: usize, shape: &Shape) -> candle_core::Result<Tensor> {
        let new = self.part(qkv, first, self.kv_heads)?;
        let all = match &shape.past {
            Some(past) => {
                let (n, k, _, d) = new.dims4()?;
                let old = self.part(past, first, self.kv_heads)?;
                let old = old.broadcast_as((n, k, shape.first_position(), d))?;
                Tensor::cat(&[old.contiguous()?, new], 2)?
            }
            None => new,
        };
        let (n, k, t, d) = all.dims4()?;
        let each = self.heads / self.kv_heads;
        all.unsqueeze(2)?.broadcast_as((n, k, each, t, d))?.reshape((n, self.heads, t, d))
    }

    /// What to add to scores, `(n or 1,1,t,p+t)`: 0 for seen keys, −∞ for hidden ones; `None` if all are seen.
    fn hidden(&self, like: &Tensor, shape: &Shape) -> candle_core::Result<Option<Tensor>> {
        let hidden = [self.later(like, shape)?, self.of_other_windows(like, shape)?, by_masks(like, shape)?];
        let either = |a: candle_core::Result<Tensor>, b: candle_core::Result<Tensor>| a?.broadcast_maximum(&b?);
        let Some(hidden) = hidden.into_iter().flatten().map(Ok).reduce(either) else { return Ok(None) };
        let hidden = hidden?;
        let nothing = hidden.zeros_like()?.to_dtype(like.dtype())?;
        let never = Tensor::full(f32::NEG_INFINITY, hidden.shape(), like.device())?.to_dtype(like.dtype())?;
        hidden.where_cond(&never, &nothing).map(Some)
    }

    /// 1 where a key comes after the query, `(1,1,t,p+t)`, in causal attention.
    fn later(&self, like: &Tensor, shape: &Shape) -> candle_core::Result<Option<Tensor>> {
        if !self.causal {
            return Ok(None);
        }
        let (past, keys) = (shape.first_position() as u32, (shape.first_position() + shape.tokens) as u32);
        let along = |from: u32| Tensor::arange(from, keys, like.device());
        along(0)?.reshape((1, 1, 1, ()))?.broadcast_gt(&along(past)?.reshape((1, 1, (), 1))?).map(Some)
    }

    /// 1 where a key is in another window than the query, `(1,1,t,t)`.
    fn of_other_windows(&self, like: &Tensor, shape: &Shape) -> candle_core::Result<Option<Tensor>> {
        if !self.has_windows(shape) {
            return Ok(None);
        }
        let number = Tensor::new(window_of_each(shape), like.device())?;
        number.reshape((1, 1, 1, ()))?.broadcast_ne(&number.reshape((1, 1, (), 1))?).map(Some)
    }
}

/// 1 where a mask hides a key, `(n or 1,1,1,p+t)`.
fn by_masks(like: &Tensor, shape: &Shape) -> candle_core::Result<Option<Tensor>> {
    if shape.key_mask.is_none() && shape.past_mask.is_none() {
        return Ok(None);
    }
    let examples = if shape.past_mask.is_some() { shape.examples } else { 1 };
    let of_example = |example: usize| {
        let past = shape.past_seen(example).map_or(vec![true; shape.first_position()], <[bool]>::to_vec);
        let now = shape.key_mask.as_deref().map_or(vec![true; shape.tokens], <[bool]>::to_vec);
        [past, now].concat()
    };
    let hidden: Vec<u8> = (0..examples).flat_map(of_example).map(|seen| u8::from(!seen)).collect();
    Tensor::from_vec(hidden, (examples, 1, 1, shape.first_position() + shape.tokens), like.device()).map(Some)
}

/// The number of the window that each token is in.
fn window_of_each(shape: &Shape) -> Vec<u32> {
    let windows = shape.windows.iter().flat_map(|windows| windows.iter().enumerate());
    windows.flat_map(|(number, &tokens)| std::iter::repeat_n(number as u32, tokens)).collect()
}

/// One head of one example: where its numbers lie, and of what size they are.
struct Head<'a, T: Real> {
    attention: &'a Attention,
    shape: &'a Shape,
    before: Option<Before<'a, T>>,
    /// What is added to its scores, `(t,t)`.
    bias: Option<&'a [T]>,
    /// The head's width.
    d: usize,
    /// Offsets of its query, key and value within a row, and of its output within an output's row.
    q: usize,
    k: usize,
    v: usize,
}

/// What all heads of a pass read besides its tokens.
struct Given<'a, T> {
    past: Option<View<'a, T>>,
    bias: Option<View<'a, T>>,
}

impl<'a, T: Real> Given<'a, T> {
    fn of(attention: &'a Attention, shape: &'a Shape) -> candle_core::Result<Self> {
        Ok(Self { past: past_of(shape)?, bias: attention.bias_for(shape)?.map(view).transpose()? })
    }
}

/// Where a head's q̄, K̄ and V̄ go: rows `width` apart, and where each begins.
struct Slopes<'a, T> {
    out: &'a mut [T],
    width: usize,
    q: usize,
    k: usize,
    v: usize,
}

/// A head's keys and values of the tokens before, as rows `width` apart.
struct Before<'a, T: Real> {
    keys: Cow<'a, [T]>,
    values: Cow<'a, [T]>,
    tokens: usize,
    width: usize,
    /// Which of them are seen, where some are hidden.
    seen: Option<&'a [bool]>,
}

impl<T: Real> Before<'_, T> {
    /// Those that are seen, `d` wide, side by side.
    fn of_seen(&self, seen: &[bool], d: usize) -> Self {
        let places: Vec<usize> = (0..self.tokens).filter(|place| seen[*place]).collect();
        let rows = |all: &[T]| places.iter().map(|place| &all[place * self.width..][..d]).collect::<Vec<_>>().concat();
        let [keys, values] = [&self.keys, &self.values].map(|all| Cow::Owned(rows(all)));
        Self { keys, values, tokens: places.len(), width: d, seen: None }
    }
}

/// What came before the tokens of this pass, as rows of the same width.
fn past_of<T: Real>(shape: &Shape) -> candle_core::Result<Option<View<'_, T>>> {
    let past = shape.past.as_ref().map(view::<T>).transpose()?;
    match past.as_ref().is_some_and(|past| past.len() != shape.first_position() * shape.channels) {
        true => {
            candle_core::bail!("the past holds other channels than the {} of this attention's input", shape.channels)
        }
        false => Ok(past),
    }
}

/// Visits every head of every example: the head, without what is hidden from it, and the first row of its example.
fn each_head<T: Real>(
    attention: &Attention,
    shape: &Shape,
    mut visit: impl FnMut(Head<T>, usize),
) -> candle_core::Result<()> {
    let given = &Given::of(attention, shape)?;
    for number in 0..shape.examples * attention.heads {
        let (head, row) = Head::new(attention, shape, given, number);
        visit(head.without_hidden(), row);
    }
    Ok(())
}

impl<'a, T: Real> Head<'a, T> {
    /// A head, counted through all examples, and the first row of its example.
    fn new(attention: &'a Attention, shape: &'a Shape, given: &'a Given<T>, number: usize) -> (Self, usize) {
        let (example, query) = (number / attention.heads, number % attention.heads);
        let key = query * attention.kv_heads / attention.heads;
        let d = shape.channels / attention.parts();
        let (k, v) = ((attention.heads + key) * d, (attention.heads + attention.kv_heads + key) * d);
        let before = given.past.as_deref().map(|past| Before {
            keys: Cow::Borrowed(&past[k..]),
            values: Cow::Borrowed(&past[v..]),
            tokens: shape.first_position(),
            width: shape.channels,
            seen: shape.past_seen(example),
        });
        let size = shape.tokens * shape.tokens;
        let bias = given.bias.as_deref().map(|bias| &bias[query * size..][..size]);
        (Self { attention, shape, before, bias, d, q: query * d, k, v }, example * shape.tokens)
    }

    /// The same without the tokens before that are hidden from its example: nothing is computed of them.
    fn without_hidden(self) -> Self {
        let seen_alone = |before: Before<'a, T>| match before.seen {
            Some(seen) => before.of_seen(seen, self.d),
            None => before,
        };
        Self { before: self.before.map(seen_alone), ..self }
    }

    /// How many tokens before it has.
    fn past(&self) -> usize {
        self.before.as_ref().map_or(0, |before| before.tokens)
    }

    /// Keys and values of the tokens before, `(p,d)`.
    fn before(&self) -> Option<[MatRef<'_, T>; 2]> {
        let before = self.before.as_ref()?;
        Some([&before.keys, &before.values].map(|rows| matrix(rows, before.tokens, self.d, before.width)))
    }

    /// All queries.
    fn queries(&self) -> Queries<'_, 'a, T> {
        Queries { head: self, range: 0..self.shape.tokens }
    }

    /// The queries, some at a time where later ones see more keys than earlier ones: what no query of a block sees is not
    /// worked out for it.
    fn blocks(&self) -> impl Iterator<Item = Queries<'_, 'a, T>> {
        let tokens = self.shape.tokens;
        let each = if self.attention.causal { QUERIES } else { tokens };
        (0..tokens).step_by(each).map(move |start| Queries { head: self, range: start..tokens.min(start + each) })
    }

    /// How many scores its queries have.
    fn scores(&self) -> usize {
        self.blocks().map(|queries| queries.scores()).sum()
    }

    /// A, block by block in `pattern`, and y = A·V, `(t,d)` with rows `width` apart.
    fn attend(&self, qkv: &[T], row: usize, y: &mut [T], width: usize, mut pattern: &mut [T]) {
        for queries in self.blocks() {
            let (block, rest) = pattern.split_at_mut(queries.scores());
            queries.pattern(qkv, row, block);
            queries.mix(block, qkv, row, &mut y[queries.range.start * width..], width);
            pattern = rest;
        }
    }

    /// From ȳ and, if it was kept, A, adds the head's part to `slopes`.
    fn pull_back(&self, qkv: &[T], dy: &[T], row: usize, pattern: Option<&[T]>, slopes: &mut Slopes<T>) {
        let (mut again, mut slope, mut start) = (Vec::new(), Vec::new(), 0);
        for queries in self.blocks() {
            let size = queries.scores();
            slope.resize(size, T::zero());
            let block = match pattern {
                Some(pattern) => &pattern[start..][..size],
                None => {
                    again.resize(size, T::zero());
                    queries.pattern(qkv, row, &mut again);
                    &again
                }
            };
            queries.pull_back(block, qkv, queries.output(dy, row), row, &mut slope, slopes);
            start += size;
        }
    }
}

/// So many queries of causal attention are worked on at a time.
const QUERIES: usize = 128;

/// Neighbouring queries of a head: q of them, which see s of the keys.
struct Queries<'h, 'a, T: Real> {
    head: &'h Head<'a, T>,
    range: Range<usize>,
}

impl<T: Real> Queries<'_, '_, T> {
    /// How many keys of this pass one of them sees.
    fn now(&self) -> usize {
        if self.head.attention.causal { self.range.end } else { self.head.shape.tokens }
    }

    /// How many keys one of them sees, those of the tokens before included.
    fn keys(&self) -> usize {
        self.head.past() + self.now()
    }

    /// How many scores they have.
    fn scores(&self) -> usize {
        self.range.len() * self.keys()
    }

    /// Their q, `(q,d)`, of the tokens from a row on.
    fn own<'b>(&self, qkv: &'b [T], row: usize) -> MatRef<'b, T> {
        let (head, width) = (self.head, self.head.shape.channels);
        matrix(&qkv[(row + self.range.start) * width + head.q..], self.range.len(), head.d, width)
    }

    /// The keys or values that they see, `(s,d)`, of the tokens from a row on.
    fn seen<'b>(&self, qkv: &'b [T], row: usize, part: usize) -> MatRef<'b, T> {
        let (head, width) = (self.head, self.head.shape.channels);
        matrix(&qkv[row * width + part..], self.now(), head.d, width)
    }

    /// Their part of the output, `(q,d)`, from a row on.
    fn output<'b>(&self, y: &'b [T], row: usize) -> MatRef<'b, T> {
        let width = self.head.attention.heads * self.head.d;
        matrix(&y[(row + self.range.start) * width + self.head.q..], self.range.len(), self.head.d, width)
    }

    /// The columns of their scores that belong to the tokens before, and those that belong to the tokens of this pass.
    fn halves<'b>(&self, scores: &'b [T]) -> (MatRef<'b, T>, MatRef<'b, T>) {
        matrix(scores, self.range.len(), self.keys(), self.keys()).split_at_col(self.head.past())
    }

    /// scores `(q,p+s)` = scale · a·[keys or values]ᵀ, of the tokens before and of this pass.
    fn against_all(&self, scores: &mut [T], scale: T, a: MatRef<T>, before: Option<MatRef<T>>, now: MatRef<T>) {
        let (keys, past, cores) = (self.keys(), self.head.past(), self.head.shape.cores);
        if let Some(before) = before {
            matmul(scores, keys, false, scale, a, before.transpose(), cores);
        }
        matmul(&mut scores[past..], keys, false, scale, a, now.transpose(), cores);
    }

    /// A·V, `(q,d)` with rows `width` apart, from their A.
    fn mix(&self, pattern: &[T], qkv: &[T], row: usize, y: &mut [T], width: usize) {
        let ((old, now), cores) = (self.halves(pattern), self.head.shape.cores);
        matmul(y, width, false, T::one(), now, self.seen(qkv, row, self.head.v), cores);
        if let Some([_, values]) = self.head.before() {
            matmul(y, width, true, T::one(), old, values, cores);
        }
    }

    /// Their A, `(q,p+s)`.
    fn pattern(&self, qkv: &[T], row: usize, pattern: &mut [T]) {
        let head = self.head;
        let scale = T::lit(1.0 / (head.d as f64).sqrt());
        let before = head.before().map(|[keys, _]| keys);
        self.against_all(pattern, scale, self.own(qkv, row), before, self.seen(qkv, row, head.k));
        if let Some(bias) = head.bias {
            let rows = bias.chunks_exact(head.shape.tokens).skip(self.range.start);
            let add = |(score, &bias): (&mut T, &T)| *score += bias;
            pattern
                .chunks_exact_mut(self.keys())
                .zip(rows)
                .for_each(|(row, bias)| row.iter_mut().zip(bias).for_each(add));
        }
        self.softmax_rows(pattern);
    }

    /// Every row of their scores becomes its softmax; hidden keys get zero.
    fn softmax_rows(&self, scores: &mut [T]) {
        let (head, past, first) = (self.head, self.head.past(), self.range.start);
        let before = head.before.as_ref().and_then(|before| before.seen);
        let (causal, mask) = (head.attention.causal, head.shape.key_mask.as_deref());
        simd(
            #[inline(always)]
            || {
                for (query, row) in scores.chunks_exact_mut(self.keys()).enumerate() {
                    let seen = if causal { past + first + query + 1 } else { row.len() };
                    let (row, later) = row.split_at_mut(seen);
                    later.fill(T::zero());
                    hide(row, before);
                    hide(&mut row[past..], mask);
                    softmax(row);
                }
            },
        );
    }

    /// From their A and ȳ, adds V̄ to `slopes`, and q̄ and K̄ unless the pattern is frozen; `slope` is for Ā, `(q,p+s)`.
    fn pull_back(&self, pattern: &[T], qkv: &[T], dy: MatRef<T>, row: usize, slope: &mut [T], slopes: &mut Slopes<T>) {
        let (head, rules) = (self.head, self.head.shape.rules);
        let [share, score] = [rules.attention, rules.score].map(Product::share);
        let (width, own) = (slopes.width, self.range.start * slopes.width + slopes.q);
        let (to_k, to_v) = (slopes.k, slopes.v);
        let mut into = |part: usize, scale: T, a: MatRef<T>, b: MatRef<T>| {
            matmul(&mut slopes.out[part..], width, true, scale, a, b, head.shape.cores);
        };
        into(to_v, T::lit(share), self.halves(pattern).1.transpose(), dy);
        if rules.attention == Product::Frozen {
            return;
        }
        let scale = T::lit(share * score / (head.d as f64).sqrt());
        let [k, v] = [head.k, head.v].map(|part| self.seen(qkv, row, part));
        self.against_all(slope, T::one(), dy, head.before().map(|[_, values]| values), v);
        softmax_backward(pattern, slope, self.keys());
        let (old, now) = self.halves(slope);
        into(own, scale, now, k);
        if let Some([keys, _]) = head.before() {
            into(own, scale, old, keys);
        }
        if rules.score != Product::Frozen {
            into(to_k, scale, now.transpose(), self.own(qkv, row));
        }
    }
}

impl Block for Attention {
    /// Keeps q, k and v and, before them, the patterns, if there is room for them.
    fn forward<T: Real>(&self, qkv: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        if let Some(runs) = self.runs(shape) {
            let window = |(row, run): &(usize, Shape)| {
                let rows = qkv[row * run.channels..][..run.rows() * run.channels].to_vec();
                Ok(self.forward(rows, &Shape { keep: false, ..run.clone() })?.0)
            };
            let windows: Vec<Rows<T>> = runs.iter().map(window).collect::<candle_core::Result<_>>()?;
            return Ok((windows.concat(), vec![qkv]));
        }
        let (y, patterns) = match self.is_worth_sharing(shape) {
            true => self.attend_shared(&qkv, shape)?,
            false => self.attend(&qkv, shape)?,
        };
        Ok((y, patterns.into_iter().chain([qkv]).collect()))
    }

    fn backward<T: Real>(&self, kept: &[Rows<T>], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let Some((qkv, patterns)) = kept.split_last() else {
            candle_core::bail!("attention kept nothing to walk back by")
        };
        if let Some(runs) = self.runs(shape) {
            let out = shape.channels / self.parts() * self.heads;
            let window = |(row, run): &(usize, Shape)| {
                let dy = dy[row * out..][..run.rows() * out].to_vec();
                self.backward(&[qkv[row * run.channels..][..run.rows() * run.channels].to_vec()], dy, run)
            };
            let windows: Vec<Rows<T>> = runs.iter().map(window).collect::<candle_core::Result<_>>()?;
            return Ok(windows.concat());
        }
        if self.is_worth_sharing(shape) {
            return self.shared_slopes(qkv, patterns, &dy, shape);
        }
        let mut out = vec![T::zero(); qkv.len()];
        let mut patterns = patterns.iter();
        each_head::<T>(self, shape, |head, row| {
            let (out, width) = (&mut out[row * shape.channels..], shape.channels);
            let mut slopes = Slopes { out, width, q: head.q, k: head.k, v: head.v };
            head.pull_back(qkv, &dy, row, patterns.next().map(Vec::as_slice), &mut slopes);
        })?;
        Ok(out)
    }

    fn composed(&self, qkv: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let Some(windows) = shape.windows.as_ref().filter(|_| self.windowed) else {
            return self.mix(&self.pattern(qkv, shape)?, qkv, shape);
        };
        let mut start = 0;
        let window = |&tokens: &usize| {
            let (part, shape) = (qkv.narrow(1, start, tokens)?, Shape { tokens, windows: None, ..shape.clone() });
            start += tokens;
            self.composed(&part, &shape)
        };
        let windows: Vec<Tensor> = windows.iter().map(window).collect::<candle_core::Result<_>>()?;
        Tensor::cat(&windows, 1)
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let wanted =
            || format!("(n, t, {0}·d), {1} queries, {2} keys and {2} values", self.parts(), self.heads, self.kv_heads);
        match channels.is_multiple_of(self.parts()) {
            true => Ok(channels / self.parts() * self.heads),
            false => Err(Error::shape("packed q, k, v", wanted(), &[channels])),
        }
    }
}

/// Scores of keys that a mask hides.
#[inline(always)]
fn hide<T: Real>(scores: &mut [T], mask: Option<&[bool]>) {
    let hidden = scores.iter_mut().zip(mask.unwrap_or_default()).filter(|(_, seen)| !**seen);
    hidden.for_each(|(score, _)| *score = T::neg_infinity());
}

#[inline(always)]
fn softmax<T: Real>(row: &mut [T]) {
    let top = greatest(row);
    row.iter_mut().for_each(|s| *s = (*s - top).fast_exp());
    let scale = T::one() / sum(row.len(), |i| row[i]);
    row.iter_mut().for_each(|s| *s *= scale);
}

/// Ā becomes A∘(Ā − rowsum(A∘Ā)), row by row.
fn softmax_backward<T: Real>(pattern: &[T], slope: &mut [T], keys: usize) {
    simd(
        #[inline(always)]
        || {
            for (a, g) in pattern.chunks_exact(keys).zip(slope.chunks_exact_mut(keys)) {
                softmax_pull_back(a, g);
            }
        },
    );
}

#[inline(always)]
fn softmax_pull_back<T: Real>(a: &[T], g: &mut [T]) {
    let dot = sum(a.len(), |i| a[i] * g[i]);
    g.iter_mut().zip(a).for_each(|(g, &a)| *g = a * (*g - dot));
}
