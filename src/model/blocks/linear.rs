//! y = x·Wᵀ + b with frozen weights.

use candle_core::Tensor;

use super::frozen::product;
use super::matrix::{Real, matmul, matrix};
use super::stage::{Block, Rows, Shape, Tape, view};
use super::weight::Weight;
use crate::{Error, Result};

/// `(n,t,c) → (n,t,d)`: y = x·Wᵀ + b, with W `(d,c)` and b `(d,)` as checkpoints store them.
///
/// The weights are constants: the backward yields x̄ = ȳ·W and nothing else.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, Linear, Stage};
/// let weight = Tensor::new(&[[1.0f64, 2.0], [0.0, 1.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0.5f64, 0.0], &Device::Cpu)?;
/// let chain = Chain::new(vec![Stage::Linear(Linear::new(weight, Some(bias))?)]);
/// let x = Tensor::new(&[[[3.0f64, 4.0]]], &Device::Cpu)?;
/// assert_eq!(chain.forward(&x, None, &mut Clear)?.to_vec3::<f64>()?, [[[11.5, 4.0]]]);
/// let slope = grad_at(|x| Ok(chain.forward(x, None, &mut Clear)?.sum((1, 2))?), &x)?;
/// assert_eq!(slope.to_vec3::<f64>()?, [[[1.0, 3.0]]]);    // ȳ·W, ȳ being ones
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    /// W, cut into matrices of some rows each: those that quantised checkpoints keep by themselves.
    weights: Vec<Weight>,
    bias: Option<Tensor>,
    from: usize,
    to: usize,
}

impl Linear {
    /// From a weight `(d,c)` and an optional bias `(d,)`.
    ///
    /// Errors: other shapes.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        Self::of(Weight::Dense(weight.contiguous()?), bias)
    }

    /// From a weight that may be quantised.
    ///
    /// Errors: other shapes.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::candle_core::quantized::{GgmlDType, QTensor};
    /// use pellucid::model::blocks::{Linear, Weight};
    /// let numbers = Tensor::ones((4, 32), DType::F32, &Device::Cpu)?;
    /// let packed = Weight::Quantised(QTensor::quantize(&numbers, GgmlDType::Q8_0)?.into(), DType::F32);
    /// assert!(Linear::of(packed, None)?.is_packed() && !Linear::new(numbers, None)?.is_packed());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn of(weight: Weight, bias: Option<Tensor>) -> Result<Self> {
        let &[to, from] = weight.dims() else {
            return Err(Error::shape("a linear weight", "(d, c)", weight.dims()));
        };
        if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [to]) {
            return Err(Error::shape("a linear bias", format!("({to},)"), bias.dims()));
        }
        Ok(Self { weights: vec![weight], bias: bias.map(|b| b.contiguous()).transpose()?, from, to })
    }

    /// Several projections of the same input as one: their rows stacked. A part without a bias has one of zeros, if any
    /// has one.
    ///
    /// Errors: no parts; inputs of different widths.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::blocks::{Chain, Linear, Stage};
    /// let times = |factor: f64| Linear::new(Tensor::new(&[[factor]], &Device::Cpu)?, None);
    /// let both = Chain::new(vec![Stage::Linear(Linear::stacked(&[times(2.0)?, times(3.0)?])?)]);
    /// let x = Tensor::new(&[[[1.0f64]]], &Device::Cpu)?;
    /// assert_eq!(both.forward(&x, None, &mut Clear)?.to_vec3::<f64>()?, [[[2.0, 3.0]]]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn stacked(parts: &[Linear]) -> Result<Self> {
        let from = parts.first().ok_or_else(|| Error::argument("there are no projections to stack"))?.from;
        if let Some(other) = parts.iter().find(|part| part.from != from) {
            return Err(Error::shape("a stacked projection", format!("(d, {from})"), &[other.to, other.from]));
        }
        let weights: Vec<Weight> = parts.iter().flat_map(|part| part.weights.clone()).collect();
        Ok(Self { weights: joined(weights)?, bias: biases(parts)?, from, to: parts.iter().map(|part| part.to).sum() })
    }

    /// γ·(x·Wᵀ + b), with γ `(d,)`: a scale of every channel, as LayerScale is, is a part of the matrix.
    ///
    /// Errors: not one scale per channel.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::blocks::{Chain, Linear, Stage};
    /// let linear = Linear::new(Tensor::new(&[[1.0f64, 2.0], [0.0, 1.0]], &Device::Cpu)?, None)?;
    /// let scaled = Chain::new(vec![Stage::Linear(linear.scaled(&Tensor::new(&[10.0f64, 1.0], &Device::Cpu)?)?)]);
    /// let x = Tensor::new(&[[[3.0f64, 4.0]]], &Device::Cpu)?;
    /// assert_eq!(scaled.forward(&x, None, &mut Clear)?.to_vec3::<f64>()?, [[[110.0, 4.0]]]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn scaled(&self, scale: &Tensor) -> Result<Self> {
        if scale.dims() != [self.to] {
            return Err(Error::shape("a linear block's scale", format!("({},)", self.to), scale.dims()));
        }
        let rows: Vec<Tensor> = self.weights.iter().map(Weight::dense).collect::<candle_core::Result<_>>()?;
        let weight = Tensor::cat(&rows, 0)?.broadcast_mul(&scale.unsqueeze(1)?)?;
        Self::new(weight, self.bias.as_ref().map(|bias| bias * scale).transpose()?)
    }

    /// x·Wᵀ, and b if there is one.
    pub(super) fn without_bias(&self) -> Option<(Self, Tensor)> {
        Some((Self { bias: None, ..self.clone() }, self.bias.clone()?))
    }

    /// Whether it has a bias.
    pub(super) fn has_bias(&self) -> bool {
        self.bias.is_some()
    }

    /// Whether its matrix is packed.
    pub fn is_packed(&self) -> bool {
        self.weights.iter().any(Weight::is_packed)
    }

    /// How much memory its matrix takes.
    pub fn bytes(&self) -> usize {
        self.weights.iter().map(Weight::bytes).sum()
    }
}

/// Matrices of numbers become one, so that one product serves them; quantised ones stay apart.
fn joined(weights: Vec<Weight>) -> Result<Vec<Weight>> {
    let dense: Option<Vec<&Tensor>> =
        weights.iter().map(|w| if let Weight::Dense(w) = w { Some(w) } else { None }).collect();
    match dense {
        Some(dense) => Ok(vec![Weight::Dense(Tensor::cat(&dense, 0)?)]),
        None => Ok(weights),
    }
}

/// So many of the first columns are zero in every row, as those of queries and keys are where attention is frozen: nothing
/// is walked back through them.
fn zeros_ahead<T: Real>(rows: &[T], width: usize) -> usize {
    let of_row = |row: &[T]| row.iter().position(|&x| x != T::zero()).unwrap_or(width);
    rows.chunks_exact(width).map(of_row).min().unwrap_or(width)
}

fn biases(parts: &[Linear]) -> Result<Option<Tensor>> {
    let Some(like) = parts.iter().find_map(|part| part.bias.as_ref()) else { return Ok(None) };
    let of = |part: &Linear| match &part.bias {
        Some(bias) => Ok(bias.clone()),
        None => Tensor::zeros(part.to, like.dtype(), like.device()),
    };
    let biases: Vec<Tensor> = parts.iter().map(of).collect::<candle_core::Result<_>>()?;
    Ok(Some(Tensor::cat(&biases, 0)?))
}

impl Block for Linear {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        let mut y = match &self.bias {
            Some(bias) => view::<T>(bias)?.repeat(shape.rows()),
            None => vec![T::zero(); shape.rows() * self.to],
        };
        let (x, mut start) = (matrix(&x, shape.rows(), self.from, self.from), 0);
        for weight in &self.weights {
            let (rows, numbers) = (weight.dims()[0], weight.numbers::<T>()?);
            let w = matrix(&numbers, rows, self.from, self.from);
            matmul(&mut y[start..], self.to, self.bias.is_some(), T::one(), x, w.transpose(), shape.cores);
            start += rows;
        }
        Ok((y, Vec::new()))
    }

    fn backward<T: Real>(&self, _: &[Rows<T>], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let mut dx = vec![T::zero(); shape.rows() * self.from];
        let (first, mut start) = (zeros_ahead(&dy, self.to), 0);
        for weight in &self.weights {
            let end = start + weight.dims()[0];
            let from = first.clamp(start, end);
            if from < end {
                let numbers = weight.numbers::<T>()?;
                let w = matrix(&numbers[(from - start) * self.from..], end - from, self.from, self.from);
                let dy = matrix(&dy[from..], shape.rows(), end - from, self.to);
                matmul(&mut dx, self.from, from > 0, T::one(), dy, w, shape.cores);
            }
            start = end;
        }
        Ok(dx)
    }

    fn composed(&self, x: &Tensor, _: &Shape) -> candle_core::Result<Tensor> {
        let parts: Vec<Tensor> =
            self.weights.iter().map(|weight| product(x, weight)).collect::<candle_core::Result<_>>()?;
        let y = Tensor::cat(&parts, 2)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let wrong = || Error::shape("a linear block's input", format!("(n, t, {})", self.from), &[channels]);
        if channels == self.from { Ok(self.to) } else { Err(wrong()) }
    }
}
