//! The activation functions of transformers, each with its slope beside it.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::matrix::Real;
use super::stage::{Block, Rows, Shape};
use super::{shared_out, simd};

/// `(n,t,c) → (n,t,c)`, element by element, under the names Hugging Face configs use.
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
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Rows<T>)> {
        let mut y = vec![T::zero(); x.len()];
        shared_out(shape, &x, &mut y, |x, y| self.map(x, y, |y, (value, _)| *y = value));
        Ok((y, x))
    }

    fn backward<T: Real>(&self, x: &[T], mut dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        shared_out(shape, x, &mut dy, |x, g| self.map(x, g, |g, (_, slope)| *g *= slope));
        Ok(dy)
    }

    fn composed(&self, x: &Tensor, _: &Shape) -> candle_core::Result<Tensor> {
        match self {
            Self::Gelu => x.gelu_erf(),
            Self::GeluNew => x.gelu(),
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Silu => x.silu(),
            Self::Relu => x.relu(),
            Self::Tanh => x.tanh(),
        }
    }
}

impl Activation {
    /// Visits every element of `y` with (a(x), a′(x)).
    pub(super) fn map<T: Real>(self, x: &[T], y: &mut [T], visit: impl Fn(&mut T, (T, T))) {
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
fn each<T: Real>(x: &[T], y: &mut [T], visit: impl Fn(&mut T, (T, T)), a: impl Fn(T) -> (T, T)) {
    simd(
        #[inline(always)]
        || {
            for (y, &x) in y.iter_mut().zip(x) {
                visit(y, a(x));
            }
        },
    );
}

#[inline(always)]
fn gelu<T: Real>(x: T) -> (T, T) {
    let (phi, density) = x.normal();
    (x * phi, phi + x * density)
}

#[inline(always)]
fn gelu_new<T: Real>(x: T) -> (T, T) {
    let (half, a, b) = (T::lit(0.5), T::lit((2.0 / std::f64::consts::PI).sqrt()), T::lit(0.044715));
    let t = (a * (x + b * x * x * x)).fast_tanh();
    let inner = a * (T::one() + T::lit(3.0) * b * x * x);
    (half * x * (T::one() + t), half * (T::one() + t) + half * x * (T::one() - t * t) * inner)
}

/// x·sigmoid(kx).
#[inline(always)]
fn gated<T: Real>(x: T, k: T) -> (T, T) {
    let s = T::one() / (T::one() + (-k * x).fast_exp());
    (x * s, s + x * k * s * (T::one() - s))
}

#[inline(always)]
fn relu<T: Real>(x: T) -> (T, T) {
    if x > T::zero() { (x, T::one()) } else { (T::zero(), T::zero()) }
}

#[inline(always)]
fn tanh<T: Real>(x: T) -> (T, T) {
    let t = x.fast_tanh();
    (t, T::one() - t * t)
}
