//! Softmax attention over packed queries, keys and values.

use candle_core::{D, Tensor};

use super::matrix::{Matrix, Real, matmul};
use super::stage::{Block, Rows, Shape};
use super::{at_least_single, greatest, simd, sum};
use crate::{Error, Result};

/// `(n,t,3c) → (n,t,c)`: per head, A = softmax(q·kᵀ/√d), y = A·v (Vaswani et al. 2017, arXiv 1706.03762, eq. 1).
///
/// Its input holds q, k and v side by side, as one stacked [`Linear`](super::Linear) yields them; keys that the text's
/// mask hides get no weight. The backward recomputes A per head rather than keep `(h,t,t)` numbers for every step:
/// with Ā = ȳ·vᵀ and S̄ = A∘(Ā − rowsum(A∘Ā))/√d,
///
/// q̄ = S̄·k, k̄ = S̄ᵀ·q, v̄ = Aᵀ·ȳ.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    heads: usize,
}

impl Attention {
    /// Bidirectional attention with `heads` heads.
    ///
    /// Errors: no heads.
    pub fn new(heads: usize) -> Result<Self> {
        if heads == 0 { Err(Error::argument("attention needs at least one head")) } else { Ok(Self { heads }) }
    }

    /// `(n,t,3c) → (n,h,t,t)`: the attention pattern A, differentiable.
    pub(super) fn pattern(&self, qkv: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let (q, k) = (self.part(qkv, 0)?, self.part(qkv, 1)?);
        let scale = 1.0 / (q.dim(D::Minus1)? as f64).sqrt();
        let scores = (q.matmul(&k.t()?)? * scale)?;
        let scores = match shape.hidden_keys(qkv)? {
            Some(hide) => scores.broadcast_add(&hide)?,
            None => scores,
        };
        candle_nn::ops::softmax(&at_least_single(&scores)?, D::Minus1)?.to_dtype(qkv.dtype())
    }

    /// `(n,h,t,t)` and the packed values → `(n,t,c)`: A·v, heads side by side.
    pub(super) fn mix(&self, pattern: &Tensor, qkv: &Tensor) -> candle_core::Result<Tensor> {
        pattern.matmul(&self.part(qkv, 2)?)?.transpose(1, 2)?.flatten_from(2)
    }

    /// q (0), k (1) or v (2) of the packed projections, as `(n,h,t,d)`.
    fn part(&self, qkv: &Tensor, which: usize) -> candle_core::Result<Tensor> {
        let (n, t, width) = qkv.dims3()?;
        let c = width / 3;
        qkv.narrow(2, which * c, c)?.reshape((n, t, self.heads, c / self.heads))?.transpose(1, 2)?.contiguous()
    }

    /// Visits every head of every example: offsets of its first q and of its output, and the head's width.
    fn each_head(&self, shape: &Shape, mut visit: impl FnMut(usize, usize)) {
        let (c, d) = (shape.channels / 3, shape.channels / 3 / self.heads);
        for example in 0..shape.examples {
            for head in 0..self.heads {
                visit(example * shape.tokens * 3 * c + head * d, example * shape.tokens * c + head * d);
            }
        }
    }

    /// A of one head whose queries start at `at`, into `pattern` (t·t).
    fn head_pattern<T: Real>(&self, qkv: &[T], at: usize, shape: &Shape, pattern: &mut [T]) {
        let head = Head::new(self, shape);
        let scale = T::lit(1.0 / (head.d as f64).sqrt());
        matmul(pattern, head.t, false, scale, head.packed(qkv, at), head.packed(qkv, at + head.c).t(), shape.threads);
        softmax_rows(pattern, head.t, shape.key_mask.as_deref());
    }
}

/// The sizes of one head's matrices.
struct Head {
    t: usize,
    c: usize,
    d: usize,
}

impl Head {
    fn new(attention: &Attention, shape: &Shape) -> Self {
        let c = shape.channels / 3;
        Self { t: shape.tokens, c, d: c / attention.heads }
    }

    /// One head's q, k or v inside the packed projections, `(t,d)`.
    fn packed<'a, T>(&self, qkv: &'a [T], at: usize) -> Matrix<'a, T> {
        Matrix::new(&qkv[at..], self.t, self.d, 3 * self.c)
    }

    /// One head's slice of the output, `(t,d)`.
    fn output<'a, T>(&self, y: &'a [T], at: usize) -> Matrix<'a, T> {
        Matrix::new(&y[at..], self.t, self.d, self.c)
    }

    fn square<'a, T>(&self, pattern: &'a [T]) -> Matrix<'a, T> {
        Matrix::new(pattern, self.t, self.t, self.t)
    }
}

impl Block for Attention {
    fn forward<T: Real>(&self, qkv: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Rows<T>)> {
        let head = Head::new(self, shape);
        let mut pattern = vec![T::zero(); head.t * head.t];
        let mut y = vec![T::zero(); shape.rows() * head.c];
        self.each_head(shape, |q, out| {
            self.head_pattern(&qkv, q, shape, &mut pattern);
            let v = head.packed(&qkv, q + 2 * head.c);
            matmul(&mut y[out..], head.c, false, T::one(), head.square(&pattern), v, shape.threads);
        });
        Ok((y, qkv))
    }

    fn backward<T: Real>(&self, qkv: &[T], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let head = Head::new(self, shape);
        let (stride, scale) = (3 * head.c, T::lit(1.0 / (head.d as f64).sqrt()));
        let mut pattern = vec![T::zero(); head.t * head.t];
        let mut slope = pattern.clone();
        let mut out = vec![T::zero(); qkv.len()];
        self.each_head(shape, |q, y| {
            let (k, v) = (q + head.c, q + 2 * head.c);
            let dy = head.output(&dy, y);
            self.head_pattern(qkv, q, shape, &mut pattern);
            matmul(&mut slope, head.t, false, T::one(), dy, head.packed(qkv, v).t(), shape.threads);
            softmax_backward(&pattern, &mut slope, head.t);
            let (a, s) = (head.square(&pattern), head.square(&slope));
            matmul(&mut out[q..], stride, false, scale, s, head.packed(qkv, k), shape.threads);
            matmul(&mut out[k..], stride, false, scale, s.t(), head.packed(qkv, q), shape.threads);
            matmul(&mut out[v..], stride, false, T::one(), a.t(), dy, shape.threads);
        });
        Ok(out)
    }

    fn composed(&self, qkv: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        self.mix(&self.pattern(qkv, shape)?, qkv)
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let wanted = || format!("(n, t, 3c), c a multiple of {} heads", self.heads);
        let fits = channels.is_multiple_of(3 * self.heads);
        if fits { Ok(channels / 3) } else { Err(Error::shape("packed q, k, v", wanted(), &[channels])) }
    }
}

/// Every row of `scores` becomes its softmax; hidden keys get zero.
fn softmax_rows<T: Real>(scores: &mut [T], keys: usize, mask: Option<&[bool]>) {
    simd(
        #[inline(always)]
        || {
            for row in scores.chunks_exact_mut(keys) {
                softmax(row, mask);
            }
        },
    );
}

#[inline(always)]
fn softmax<T: Real>(row: &mut [T], mask: Option<&[bool]>) {
    if let Some(mask) = mask {
        let hidden = row.iter_mut().zip(mask).filter(|(_, seen)| !**seen);
        hidden.for_each(|(score, _)| *score = T::neg_infinity());
    }
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
