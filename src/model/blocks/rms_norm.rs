//! y = γ·x/rms(x) over the channels of each token.

use candle_core::{D, Tensor};

use super::matrix::Real;
use super::stage::{Block, Rows, Shape, Tape, view};
use super::{simd, sum};
use crate::model::rules::Product;
use crate::tensor::at_least_single;
use crate::{Error, Result};

/// `(n,t,c) → (n,t,c)`: y = γ·x/ρ, ρ² = mean(x²) + ε, over c (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4).
///
/// Backward, with x̂ = x/ρ and g = γ·ȳ: x̄ = (g − x̂·mean(g·x̂)) / ρ; with ρ frozen, x̄ = g / ρ
/// ([`Rules::norm`](crate::model::Rules::norm)).
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, RmsNorm, Stage};
/// let weight = Tensor::new(&[1.0f64, 1.0], &Device::Cpu)?;
/// let norm = Chain::new(vec![Stage::RmsNorm(RmsNorm::new(weight, 0.0)?)]).under(Rules::libragrad());
/// let x = Tensor::new(&[[[2.0f64, -2.0]]], &Device::Cpu)?;
/// assert_eq!(norm.forward(&x, None, &mut Clear)?.to_vec3::<f64>()?, [[[1.0, -1.0]]]);
/// let first = |x: &Tensor| Ok(norm.forward(x, None, &mut Clear)?.narrow(2, 0, 1)?.sum((1, 2))?);
/// assert_eq!((grad_at(first, &x)? * &x)?.sum_all()?.to_scalar::<f64>()?, 1.0);    // with ρ frozen, Σ x·x̄ = y₀
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// From γ `(c,)` and ε.
    ///
    /// Errors: another shape.
    pub fn new(weight: Tensor, eps: f64) -> Result<Self> {
        match weight.rank() {
            1 => Ok(Self { weight: weight.contiguous()?, eps }),
            _ => Err(Error::shape("an RMS norm's γ", "(c,)", weight.dims())),
        }
    }

    fn channels(&self) -> usize {
        self.weight.dims()[0]
    }
}

impl Block for RmsNorm {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        let weight = view::<T>(&self.weight)?;
        let mut y = vec![T::zero(); x.len()];
        simd(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(shape.channels).zip(y.chunks_exact_mut(shape.channels)) {
                    normalise(x, y, &weight, T::lit(self.eps));
                }
            },
        );
        Ok((y, vec![x]))
    }

    fn backward<T: Real>(&self, kept: &[Rows<T>], mut dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let weight = view::<T>(&self.weight)?;
        simd(
            #[inline(always)]
            || {
                for (x, g) in kept[0].chunks_exact(shape.channels).zip(dy.chunks_exact_mut(shape.channels)) {
                    pull_back(x, g, &weight, T::lit(self.eps), shape.rules.norm);
                }
            },
        );
        Ok(dy)
    }

    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let exact = at_least_single(x)?;
        let size = (exact.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        let normal = shape.rules.norm.of(&size, |size| exact.broadcast_div(size))?;
        normal.to_dtype(x.dtype())?.broadcast_mul(&self.weight)
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let c = self.channels();
        let wrong = || Error::shape("an RMS norm's input", format!("(n, t, {c})"), &[channels]);
        if channels == c { Ok(c) } else { Err(wrong()) }
    }
}

/// `(n,t,(h+2k)·d) → (n,t,(h+2k)·d)`: every query and key head by itself through an RMS norm, values as they are, in the
/// packed projections that [`Attention`](super::Attention) takes (Qwen3).
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, HeadNorm, RmsNorm, Stage};
/// let norm = || RmsNorm::new(Tensor::new(&[1.0f64, 1.0], &Device::Cpu)?, 0.0);
/// let heads = Chain::new(vec![Stage::HeadNorm(HeadNorm::new(norm()?, norm()?, 1, 1)?)]);
/// let qkv = Tensor::new(&[[[2.0f64, -2.0, 4.0, 4.0, 7.0, 9.0]]], &Device::Cpu)?;    // a query, a key, a value
/// assert_eq!(heads.forward(&qkv, None, &mut Clear)?.to_vec3::<f64>()?, [[[1.0, -1.0, 1.0, 1.0, 7.0, 9.0]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeadNorm {
    query: RmsNorm,
    key: RmsNorm,
    heads: usize,
    kv_heads: usize,
}

impl HeadNorm {
    /// From the norm of `heads` query heads and that of `kv_heads` key heads.
    ///
    /// Errors: norms of different widths.
    pub fn new(query: RmsNorm, key: RmsNorm, heads: usize, kv_heads: usize) -> Result<Self> {
        match query.channels() == key.channels() {
            true => Ok(Self { query, key, heads, kv_heads }),
            false => {
                Err(Error::shape("the keys' norm", format!("({},), the queries'", query.channels()), key.weight.dims()))
            }
        }
    }

    /// Visits every query and key head of every row with its norm.
    fn each_head<T: Real>(
        &self,
        x: &[T],
        y: &mut [T],
        row: usize,
        visit: impl Fn(&[T], &mut [T], &[T], T),
    ) -> candle_core::Result<()> {
        let (query, key) = (view::<T>(&self.query.weight)?, view::<T>(&self.key.weight)?);
        let d = self.query.channels();
        for (x, y) in x.chunks_exact(row).zip(y.chunks_exact_mut(row)) {
            let heads = x.chunks_exact(d).zip(y.chunks_exact_mut(d)).take(self.heads + self.kv_heads).enumerate();
            for (head, (x, y)) in heads {
                match head < self.heads {
                    true => visit(x, y, &query, T::lit(self.query.eps)),
                    false => visit(x, y, &key, T::lit(self.key.eps)),
                }
            }
        }
        Ok(())
    }
}

impl Block for HeadNorm {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        let mut y = x.clone();
        self.each_head(&x, &mut y, shape.channels, |x, y, weight, eps| normalise(x, y, weight, eps))?;
        Ok((y, vec![x]))
    }

    fn backward<T: Real>(&self, kept: &[Rows<T>], mut dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let rule = shape.rules.norm;
        self.each_head(&kept[0], &mut dy, shape.channels, |x, g, weight, eps| pull_back(x, g, weight, eps, rule))?;
        Ok(dy)
    }

    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let d = self.query.channels();
        let part = |from: usize, heads: usize, norm: &RmsNorm| {
            let heads = x.narrow(2, from * d, heads * d)?.reshape((shape.examples, shape.tokens, heads, d))?;
            norm.composed(&heads, shape)?.flatten_from(2)
        };
        let values = x.narrow(2, (self.heads + self.kv_heads) * d, self.kv_heads * d)?;
        Tensor::cat(&[part(0, self.heads, &self.query)?, part(self.heads, self.kv_heads, &self.key)?, values], 2)
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let width = (self.heads + 2 * self.kv_heads) * self.query.channels();
        let wrong = || Error::shape("packed q, k, v", format!("(n, t, {width})"), &[channels]);
        if channels == width { Ok(width) } else { Err(wrong()) }
    }
}

/// y = γ·x/ρ, for one token.
#[inline(always)]
fn normalise<T: Real>(x: &[T], y: &mut [T], weight: &[T], eps: T) {
    let inverse = inverse_size(x, eps);
    for (i, y) in y.iter_mut().enumerate() {
        *y = x[i] * inverse * weight[i];
    }
}

/// ȳ in `g` becomes x̄, for one token.
#[inline(always)]
fn pull_back<T: Real>(x: &[T], g: &mut [T], weight: &[T], eps: T, rule: Product) {
    let (inverse, share, x) = (inverse_size(x, eps), T::lit(rule.share()), &x[..g.len()]);
    g.iter_mut().zip(weight).for_each(|(g, &w)| *g *= share * w);
    if rule == Product::Frozen {
        return g.iter_mut().for_each(|g| *g *= inverse);
    }
    let mean_gx = sum(g.len(), |i| g[i] * x[i] * inverse) / T::lit(x.len() as f64);
    for (i, g) in g.iter_mut().enumerate() {
        *g = (*g - x[i] * inverse * mean_gx) * inverse;
    }
}

/// 1/ρ of one token's channels.
#[inline(always)]
fn inverse_size<T: Real>(x: &[T], eps: T) -> T {
    T::one() / (sum(x.len(), |i| x[i] * x[i]) / T::lit(x.len() as f64) + eps).sqrt()
}
