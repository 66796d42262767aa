//! y = γ·(x − μ)/σ + β over the channels of each token.

use candle_core::{D, Tensor};
use rayon::prelude::*;

use super::matrix::Real;
use super::stage::{Block, Rows, Shape, Tape, view};
use super::{share, simd, sum};
use crate::model::rules::Product;
use crate::tensor::at_least_single;
use crate::{Error, Result};

/// `(n,t,c) → (n,t,c)`: y = γ·(x − μ)/σ + β, σ² = mean((x − μ)²) + ε, over c (Ba et al. 2016, arXiv 1607.06450).
///
/// Backward, with x̂ = (x − μ)/σ and g = γ·ȳ: x̄ = (g − mean(g) − x̂·mean(g·x̂)) / σ; with σ frozen,
/// x̄ = (g − mean(g)) / σ ([`Rules::norm`](crate::model::Rules::norm)).
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, LayerNorm, Stage};
/// let (weight, bias) = (Tensor::new(&[1.0f64, 1.0], &Device::Cpu)?, Tensor::new(&[0.0f64, 0.0], &Device::Cpu)?);
/// let norm = Chain::new(vec![Stage::LayerNorm(LayerNorm::new(weight, bias, 0.0)?)]).under(Rules::libragrad());
/// let x = Tensor::new(&[[[1.0f64, 3.0]]], &Device::Cpu)?;
/// assert_eq!(norm.forward(&x, None, &mut Clear)?.to_vec3::<f64>()?, [[[-1.0, 1.0]]]);
/// let first = |x: &Tensor| Ok(norm.forward(x, None, &mut Clear)?.narrow(2, 0, 1)?.sum((1, 2))?);
/// assert_eq!((grad_at(first, &x)? * &x)?.sum_all()?.to_scalar::<f64>()?, -1.0);    // with σ frozen, Σ x·x̄ = y₀
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// From γ `(c,)`, β `(c,)` and ε.
    ///
    /// Errors: other shapes.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Result<Self> {
        if weight.rank() != 1 || weight.dims() != bias.dims() {
            return Err(Error::shape(
                "a layer norm's β",
                format!("{:?}, γ's, of one axis", weight.dims()),
                bias.dims(),
            ));
        }
        Ok(Self { weight: weight.contiguous()?, bias: bias.contiguous()?, eps })
    }

    /// γ·(x − μ)/σ, and β.
    pub(super) fn without_bias(&self) -> candle_core::Result<(Self, Tensor)> {
        Ok((Self { bias: self.bias.zeros_like()?, ..self.clone() }, self.bias.clone()))
    }
}

impl Block for LayerNorm {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        let (weight, bias) = (view::<T>(&self.weight)?, view::<T>(&self.bias)?);
        let (weight, bias): (&[T], &[T]) = (&weight, &bias);
        let mut y = vec![T::zero(); x.len()];
        let each = share(shape, x.len());
        x.par_chunks(each).zip(y.par_chunks_mut(each)).for_each(|(x, y)| {
            simd(
                #[inline(always)]
                || {
                    for (x, y) in x.chunks_exact(shape.channels).zip(y.chunks_exact_mut(shape.channels)) {
                        normalise(x, y, weight, bias, T::lit(self.eps));
                    }
                },
            );
        });
        Ok((y, vec![x]))
    }

    fn backward<T: Real>(&self, kept: &[Rows<T>], mut dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let (weight, rule) = (view::<T>(&self.weight)?, shape.rules.norm);
        let weight: &[T] = &weight;
        let (x, each) = (&kept[0], share(shape, dy.len()));
        x.par_chunks(each).zip(dy.par_chunks_mut(each)).for_each(|(x, dy)| {
            simd(
                #[inline(always)]
                || {
                    for (x, g) in x.chunks_exact(shape.channels).zip(dy.chunks_exact_mut(shape.channels)) {
                        pull_back(x, g, weight, T::lit(self.eps), rule);
                    }
                },
            );
        });
        Ok(dy)
    }

    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let exact = at_least_single(x)?;
        let centred = exact.broadcast_sub(&exact.mean_keepdim(D::Minus1)?)?;
        let sigma = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        let normal = shape.rules.norm.of(&sigma, |sigma| centred.broadcast_div(sigma))?.to_dtype(x.dtype())?;
        normal.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let c = self.weight.dims()[0];
        let wrong = || Error::shape("a layer norm's input", format!("(n, t, {c})"), &[channels]);
        if channels == c { Ok(c) } else { Err(wrong()) }
    }
}

/// y = γ·(x − μ)/σ + β, for one token.
#[inline(always)]
fn normalise<T: Real>(x: &[T], y: &mut [T], weight: &[T], bias: &[T], eps: T) {
    let (mean, inverse) = moments(x, eps);
    for (i, y) in y.iter_mut().enumerate() {
        *y = (x[i] - mean) * inverse * weight[i] + bias[i];
    }
}

/// ȳ in `g` becomes x̄, for one token.
#[inline(always)]
fn pull_back<T: Real>(x: &[T], g: &mut [T], weight: &[T], eps: T, rule: Product) {
    let (c, share, x) = (T::lit(x.len() as f64), T::lit(rule.share()), &x[..g.len()]);
    let (mean, inverse) = moments(x, eps);
    g.iter_mut().zip(weight).for_each(|(g, &w)| *g *= share * w);
    let mean_g = sum(g.len(), |i| g[i]) / c;
    if rule == Product::Frozen {
        return g.iter_mut().for_each(|g| *g = (*g - mean_g) * inverse);
    }
    let mean_gx = sum(g.len(), |i| g[i] * (x[i] - mean) * inverse) / c;
    for (i, g) in g.iter_mut().enumerate() {
        *g = (*g - mean_g - (x[i] - mean) * inverse * mean_gx) * inverse;
    }
}

/// (μ, 1/σ) of one token's channels.
#[inline(always)]
fn moments<T: Real>(x: &[T], eps: T) -> (T, T) {
    let c = T::lit(x.len() as f64);
    let mean = sum(x.len(), |i| x[i]) / c;
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / c;
    (mean, T::one() / (variance + eps).sqrt())
}
