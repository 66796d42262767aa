//! The activation functions of transformers, each with its slope and its gate beside it.

use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::matrix::Real;
use super::stage::{Block, Rows, Shape, Tape};
use super::{share, simd};
use crate::model::rules::Product;

/// `(n,t,c) → (n,t,c)`, element by element, under the names Hugging Face configs use.
///
/// Each is a(x) = x·G(x) with a gate G. Backward: x̄ = ȳ·a′(x); with the gate frozen, x̄ = ȳ·G(x)
/// ([`Rules::activation`](crate::model::Rules::activation)).
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Activation, Chain, Stage};
/// let silu = Chain::new(vec![Stage::Activation(Activation::Silu)]).under(Rules::libragrad());
/// let x = Tensor::new(&[[[-1.0f64, 2.0]]], &Device::Cpu)?;
/// let f = |x: &Tensor| -> Result<Tensor> { Ok(silu.forward(x, None, &mut Clear)?.sum((1, 2))?) };
/// let relevance = (grad_at(f, &x)? * &x)?.sum_all()?.to_scalar::<f64>()?;
/// assert!((relevance - f(&x)?.to_vec1::<f64>()?[0]).abs() < 1e-12);    // with the gate frozen, Σ x·x̄ = Σ y
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·Φ(x), exact (Hendrycks & Gimpel 2016, arXiv 1606.08415).
    Gelu,
    /// ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
    #[serde(alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluNew,
    /// x·sigmoid(1.702x), OpenAI CLIP's.
    QuickGelu,
    /// x·sigmoid(x), also called swish.
    #[serde(alias = "swish")]
    Silu,
    /// max(x, 0); its slope at 0 is taken as 0, as PyTorch does (candle takes 1).
    Relu,
    /// tanh(x), BERT's pooler.
    Tanh,
}

impl Block for Activation {
    /// Keeps what ȳ will be multiplied with.
    fn forward<T: Real>(&self, mut x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        let (mut y, each, rule) = (vec![T::zero(); x.len()], share(shape, x.len()), shape.rules.activation);
        let pairs = x.par_chunks_mut(each).zip(y.par_chunks_mut(each));
        match shape.keep {
            true => pairs.for_each(|(x, y)| self.with_slopes(x, y, rule)),
            false => pairs.for_each(|(x, y)| self.map(x, y, |_, y, at| *y = at.value)),
        }
        Ok((y, vec![x]))
    }

    fn backward<T: Real>(&self, kept: &[Rows<T>], mut dy: Rows<T>, _: &Shape) -> candle_core::Result<Rows<T>> {
        dy.iter_mut().zip(&kept[0]).for_each(|(g, &slope)| *g *= slope);
        Ok(dy)
    }

    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        match shape.rules.activation {
            Product::Frozen => self.with_frozen_gate(x),
            rule => rule.shared(&self.value(x)?),
        }
    }
}

/// An activation at one x.
pub(super) struct At<T> {
    /// a(x).
    pub value: T,
    /// a′(x).
    slope: T,
    /// G(x) = a(x)/x, and a′(0) at 0.
    gate: T,
}

impl Activation {
    /// a(x) by candle's operations.
    fn value(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Gelu => x.gelu_erf(),
            Self::GeluNew => x.gelu(),
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Silu => x.silu(),
            Self::Relu => x.relu(),
            Self::Tanh => x.tanh(),
        }
    }

    /// The same value, walked back as x·G with a constant G.
    fn with_frozen_gate(self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (x0, value) = (x.detach(), self.value(&x.detach())?);
        let nil = x0.zeros_like()?;
        let at_nil = (x0.ones_like()? * self.slope_at_nil())?;
        let gate = x0.eq(&nil)?.where_cond(&at_nil, &(&value / &x0)?)?;
        value + ((x - x0)? * gate)?
    }

    /// a′(0).
    fn slope_at_nil(self) -> f64 {
        match self {
            Self::Gelu | Self::GeluNew | Self::QuickGelu | Self::Silu => 0.5,
            Self::Relu => 0.0,
            Self::Tanh => 1.0,
        }
    }

    /// y becomes a(x), and x what ȳ will be multiplied with.
    pub(super) fn with_slopes<T: Real>(self, x: &mut [T], y: &mut [T], rule: Product) {
        match rule {
            Product::Exact => self.map(x, y, |x, y, at| (*x, *y) = (at.slope, at.value)),
            Product::Frozen => self.map(x, y, |x, y, at| (*x, *y) = (at.gate, at.value)),
            Product::Halved => self.map(x, y, |x, y, at| (*x, *y) = (T::lit(0.5) * at.slope, at.value)),
        }
    }

    /// Visits every x and the y beside it with the activation at x.
    pub(super) fn map<T: Real>(self, x: &mut [T], y: &mut [T], visit: impl Fn(&mut T, &mut T, At<T>)) {
        match self {
            Self::Gelu => each(x, y, visit, gelu),
            Self::GeluNew => each(x, y, visit, gelu_new),
            Self::QuickGelu => each(x, y, visit, |x| gated(x, T::lit(1.702))),
            Self::Silu => each(x, y, visit, |x| gated(x, T::one())),
            Self::Relu => each(x, y, visit, relu),
            Self::Tanh => each(x, y, visit, tanh),
        }
    }
}

/// The loop, compiled once per activation so that it vectorises.
#[inline(always)]
fn each<T: Real>(x: &mut [T], y: &mut [T], visit: impl Fn(&mut T, &mut T, At<T>), a: impl Fn(T) -> At<T>) {
    simd(
        #[inline(always)]
        || {
            for (x, y) in x.iter_mut().zip(y) {
                let at = a(*x);
                visit(x, y, at);
            }
        },
    );
}

#[inline(always)]
fn gelu<T: Real>(x: T) -> At<T> {
    let (phi, density) = x.normal();
    At { value: x * phi, slope: phi + x * density, gate: phi }
}

#[inline(always)]
fn gelu_new<T: Real>(x: T) -> At<T> {
    let (half, a, b) = (T::lit(0.5), T::lit((2.0 / std::f64::consts::PI).sqrt()), T::lit(0.044715));
    let t = (a * (x + b * x * x * x)).fast_tanh();
    let inner = a * (T::one() + T::lit(3.0) * b * x * x);
    let gate = half * (T::one() + t);
    At { value: half * x * (T::one() + t), slope: gate + half * x * (T::one() - t * t) * inner, gate }
}

/// x·sigmoid(kx).
#[inline(always)]
fn gated<T: Real>(x: T, k: T) -> At<T> {
    let s = T::one() / (T::one() + (-k * x).fast_exp());
    At { value: x * s, slope: s + x * k * s * (T::one() - s), gate: s }
}

#[inline(always)]
fn relu<T: Real>(x: T) -> At<T> {
    let slope = if x > T::zero() { T::one() } else { T::zero() };
    At { value: if x > T::zero() { x } else { T::zero() }, slope, gate: slope }
}

#[inline(always)]
fn tanh<T: Real>(x: T) -> At<T> {
    let t = x.fast_tanh();
    At { value: t, slope: T::one() - t * t, gate: if x == T::zero() { T::one() } else { t / x } }
}
