//! Rotary position embeddings: every pair of channels of a query or key turns by an angle that grows with its position.

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::matrix::Real;
use super::stage::{Block, Rows, Shape};
use crate::{Error, Result};

/// `(n,t,(h+2k)·d) → (n,t,(h+2k)·d)`: the queries and keys of the packed projections turned, values as they are
/// (Su et al. 2021, arXiv 2104.09864, eq. 34).
///
/// Pair i at position m turns by the angle m·θᵢ: (a, b) → (a·cos − b·sin, b·cos + a·sin). The backward turns back.
#[derive(Clone, Debug)]
pub struct Rope {
    frequencies: Vec<f64>,
    pairing: Pairing,
    heads: usize,
}

/// Which channels of a head make a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Channel i with channel i + d/2: Hugging Face's layout.
    #[default]
    Halves,
    /// Channel 2i with channel 2i + 1: the paper's, and that of Llama in GGUF.
    Neighbours,
}

impl Rope {
    /// From θ `(d/2,)`, in radians per position, for `heads` query and key heads together.
    ///
    /// Errors: no frequencies.
    pub fn new(frequencies: Vec<f64>, pairing: Pairing, heads: usize) -> Result<Self> {
        match frequencies.is_empty() {
            true => Err(Error::argument("rotary embeddings need a head of at least two channels")),
            false => Ok(Self { frequencies, pairing, heads }),
        }
    }

    /// (cos, sin) of position m and pair i at `m·d/2 + i`, for the tokens of a pass.
    fn angles<T: Real>(&self, shape: &Shape) -> Vec<(T, T)> {
        let positions = shape.first_position()..shape.first_position() + shape.tokens;
        let turn = |m: usize| self.frequencies.iter().map(move |theta| (m as f64 * theta).sin_cos());
        positions.flat_map(turn).map(|(sin, cos)| (T::lit(cos), T::lit(sin))).collect()
    }

    /// The channels of pair i of a head.
    fn pair(&self, i: usize) -> (usize, usize) {
        match self.pairing {
            Pairing::Halves => (i, i + self.frequencies.len()),
            Pairing::Neighbours => (2 * i, 2 * i + 1),
        }
    }

    /// Turns every query and key head, forwards or, with `sign` −1, back.
    fn turn<T: Real>(&self, mut x: Rows<T>, shape: &Shape, sign: T) -> Rows<T> {
        let (half, angles) = (self.frequencies.len(), self.angles::<T>(shape));
        for example in x.chunks_exact_mut(shape.tokens * shape.channels) {
            for (row, angles) in example.chunks_exact_mut(shape.channels).zip(angles.chunks_exact(half)) {
                for head in row.chunks_exact_mut(2 * half).take(self.heads) {
                    for (i, &(cos, sin)) in angles.iter().enumerate() {
                        let (a, b) = self.pair(i);
                        let (x, y, sin) = (head[a], head[b], sign * sin);
                        (head[a], head[b]) = (x * cos - y * sin, y * cos + x * sin);
                    }
                }
            }
        }
        x
    }
}

impl Block for Rope {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Rows<T>)> {
        Ok((self.turn(x, shape, T::one()), Vec::new()))
    }

    fn backward<T: Real>(&self, _: &[T], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        Ok(self.turn(dy, shape, -T::one()))
    }

    /// The pairs as a matrix: y = x·cos + (x with each pair (a, b) made (−b, a))·sin, the latter by a lookup of channels.
    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let (half, width) = (self.frequencies.len(), 2 * self.heads * self.frequencies.len());
        let angles = self.angles::<f64>(shape);
        let (mut cos, mut sin) = (vec![0f64; shape.tokens * 2 * half], vec![0f64; shape.tokens * 2 * half]);
        let mut partner = vec![0u32; width];
        for i in 0..half {
            let (a, b) = self.pair(i);
            for m in 0..shape.tokens {
                let (c, s) = angles[m * half + i];
                (cos[m * 2 * half + a], cos[m * 2 * half + b]) = (c, c);
                (sin[m * 2 * half + a], sin[m * 2 * half + b]) = (-s, s);
            }
            for head in (0..width).step_by(2 * half) {
                (partner[head + a], partner[head + b]) = ((head + b) as u32, (head + a) as u32);
            }
        }
        let table = |values: Vec<f64>| {
            let one = Tensor::from_vec(values, (shape.tokens, 2 * half), &Device::Cpu)?;
            one.repeat((1, self.heads))?.to_dtype(x.dtype())?.to_device(x.device())
        };
        let turning = x.narrow(2, 0, width)?;
        let swapped = turning.contiguous()?.index_select(&Tensor::new(partner, x.device())?, 2)?;
        let turned = (turning.broadcast_mul(&table(cos)?)? + swapped.broadcast_mul(&table(sin)?)?)?;
        Tensor::cat(&[turned, x.narrow(2, width, shape.channels - width)?], 2)
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let least = 2 * self.heads * self.frequencies.len();
        let wrong = || Error::shape("packed q, k, v", format!("(n, t, c), c at least {least}"), &[channels]);
        if channels >= least { Ok(channels) } else { Err(wrong()) }
    }
}
