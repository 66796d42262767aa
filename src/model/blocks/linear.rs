//! y = x·Wᵀ + b with frozen weights.

use candle_core::Tensor;

use super::matrix::{Matrix, Real, matmul};
use super::stage::{Block, Rows, Shape, view};
use crate::{Error, Result};

/// `(n,t,c) → (n,t,d)`: y = x·Wᵀ + b, with W `(d,c)` and b `(d,)` as checkpoints store them.
///
/// The weights are constants: the backward yields x̄ = ȳ·W and nothing else.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// From a weight `(d,c)` and an optional bias `(d,)`.
    ///
    /// Errors: other shapes.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        if weight.rank() != 2 {
            return Err(Error::shape("a linear weight", "(d, c)", weight.dims()));
        }
        if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [weight.dims()[0]]) {
            return Err(Error::shape("a linear bias", format!("({},)", weight.dims()[0]), bias.dims()));
        }
        Ok(Self { weight: weight.contiguous()?, bias: bias.map(|b| b.contiguous()).transpose()? })
    }

    /// Several projections of the same input as one: their rows stacked.
    pub fn stacked(parts: &[Linear]) -> Result<Self> {
        let weights: Vec<_> = parts.iter().map(|p| &p.weight).collect();
        let biases: Vec<_> = parts.iter().filter_map(|p| p.bias.as_ref()).collect();
        let bias = (biases.len() == parts.len()).then(|| Tensor::cat(&biases, 0)).transpose()?;
        Self::new(Tensor::cat(&weights, 0)?, bias)
    }

    fn sizes(&self) -> (usize, usize) {
        (self.weight.dims()[0], self.weight.dims()[1])
    }
}

impl Block for Linear {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Rows<T>)> {
        let (d, c) = self.sizes();
        let weight = view::<T>(&self.weight)?;
        let mut y = match &self.bias {
            Some(bias) => view::<T>(bias)?.repeat(shape.rows()),
            None => vec![T::zero(); shape.rows() * d],
        };
        let (x, w) = (Matrix::new(&x, shape.rows(), c, c), Matrix::new(&weight, d, c, c));
        matmul(&mut y, d, self.bias.is_some(), T::one(), x, w.t(), shape.threads);
        Ok((y, Vec::new()))
    }

    fn backward<T: Real>(&self, _: &[T], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let (d, c) = self.sizes();
        let weight = view::<T>(&self.weight)?;
        let mut dx = vec![T::zero(); shape.rows() * c];
        let (dy, w) = (Matrix::new(&dy, shape.rows(), d, d), Matrix::new(&weight, d, c, c));
        matmul(&mut dx, c, false, T::one(), dy, w, shape.threads);
        Ok(dx)
    }

    fn composed(&self, x: &Tensor, _: &Shape) -> candle_core::Result<Tensor> {
        let y = x.broadcast_matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let (d, c) = self.sizes();
        let wrong = || Error::shape("a linear block's input", format!("(n, t, {c})"), &[channels]);
        if channels == c { Ok(d) } else { Err(wrong()) }
    }
}
