//! Rotary position embeddings: every pair of channels of a query or key turns by an angle that grows with its position.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::matrix::Real;
use super::simd;
use super::stage::{Block, Position, Rows, Shape, Tape};
use crate::tensor::wide;
use crate::{Error, Result};

/// `(n,t,(h+2k)·d) → (n,t,(h+2k)·d)`: the queries and keys of the packed projections turned, values as they are
/// (Su et al. 2021, arXiv 2104.09864, eq. 34).
///
/// Pair i at position m turns by the angle m·θᵢ: (a, b) → (a·cos − b·sin, b·cos + a·sin). The backward turns back.
///
/// Where tokens stand in a picture, m has several axes, and every pair goes by one of them (Wang et al. 2024,
/// arXiv 2409.12191, §2.1: M-RoPE).
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, Pairing, Rope, Stage};
/// let rope = Chain::new(vec![Stage::Rope(Rope::new(vec![1.0], Pairing::Halves, 2)?)]);
/// let token = [1.0f64, 0.0, 1.0, 0.0, 5.0, 6.0];    // a query, a key, a value
/// let turned = rope.forward(&Tensor::new(&[[token, token]], &Device::Cpu)?, None, &mut Clear)?.to_vec3::<f64>()?;
/// assert_eq!(turned[0][0], token);                  // position 0 turns by nothing
/// assert_eq!(turned[0][1], [1f64.cos(), 1f64.sin(), 1f64.cos(), 1f64.sin(), 5.0, 6.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rope {
    frequencies: Vec<f64>,
    /// The axis that each pair goes by.
    axes: Vec<usize>,
    pairing: Pairing,
    heads: usize,
    /// Where the tokens of every pass stand, if that is always the same.
    places: Option<Arc<[Position]>>,
    stretch: Option<Stretch>,
}

/// How Qwen reads texts longer than those it was trained on.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// So many tokens are read as they are.
    context: usize,
    /// So many of the heads are queries.
    queries: usize,
}

/// Which channels of a head make a pair.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, Pairing, Rope, Stage};
/// let x = Tensor::new(&[[[1.0f64, 2.0, 3.0, 4.0]]], &Device::Cpu)?;    // a head of two pairs
/// let half_a_turn = |pairing| -> Result<Vec<f64>> {
///     let rope = Rope::new(vec![std::f64::consts::PI, 0.0], pairing, 1)?.at(vec![[1; 3]]);
///     Ok(Chain::new(vec![Stage::Rope(rope)]).forward(&x, None, &mut Clear)?.round()?.flatten_all()?.to_vec1()?)
/// };
/// assert_eq!(half_a_turn(Pairing::Halves)?, [-1.0, 2.0, -3.0, 4.0]);
/// assert_eq!(half_a_turn(Pairing::Neighbours)?, [-1.0, -2.0, 3.0, 4.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
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
            false => {
                Ok(Self { axes: vec![0; frequencies.len()], frequencies, pairing, heads, places: None, stretch: None })
            }
        }
    }

    /// Each pair by an axis of its own, `(d/2,)`: 0, 1 or 2.
    ///
    /// Errors: not one axis for each pair; another axis.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::blocks::{Chain, Pairing, Rope, Stage};
    /// let half_a_turn = std::f64::consts::PI;
    /// let rope = Rope::new(vec![half_a_turn, half_a_turn], Pairing::Neighbours, 1)?.along(vec![0, 1])?;
    /// let rope = Chain::new(vec![Stage::Rope(rope.at(vec![[1, 0, 0]]))]);    // row 1, column 0
    /// let x = Tensor::new(&[[[1.0f64, 2.0, 3.0, 4.0]]], &Device::Cpu)?;
    /// let turned = rope.forward(&x, None, &mut Clear)?.round()?;
    /// assert_eq!(turned.to_vec3::<f64>()?, [[[-1.0, -2.0, 3.0, 4.0]]]);      // the second pair goes by columns
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn along(self, axes: Vec<usize>) -> Result<Self> {
        match axes.len() == self.frequencies.len() && axes.iter().all(|&axis| axis < 3) {
            true => Ok(Self { axes, ..self }),
            false => Err(Error::argument(format!(
                "the rotary embeddings' {} pairs of channels each go by axis 0, 1 or 2, got {axes:?}",
                self.frequencies.len()
            ))),
        }
    }

    /// For passes whose tokens stand at these places, whatever the pass says: those of a picture of one size.
    pub fn at(self, places: Vec<Position>) -> Self {
        Self { places: Some(places.into()), ..self }
    }

    /// The same for those tokens that are kept.
    pub(super) fn keeping(&self, kept: &[bool]) -> Self {
        let some =
            |places: &Arc<[Position]>| places.iter().zip(kept).filter(|(_, kept)| **kept).map(|(at, _)| *at).collect();
        Self { places: self.places.as_ref().map(some), ..self.clone() }
    }

    /// Errors: a pass of another number of tokens than have places.
    fn fits(&self, shape: &Shape) -> candle_core::Result<()> {
        match self.places.as_ref().map(|places| places.len()).filter(|count| *count != shape.tokens) {
            Some(count) => candle_core::bail!(
                "rotary embeddings have places for {count} tokens, and were given {}: use a picture of the model's size",
                shape.tokens
            ),
            None => Ok(()),
        }
    }

    /// Beyond a context of so many tokens, lower frequencies and longer queries (the first `queries` heads), as Qwen has them:
    /// dynamic NTK, θᵢ·α^(−2i/(d−2)) with α = 2^⌈log₂(t/context) + 1⌉ − 1, and log-n attention, q·ln n/ln context at the nth
    /// token (Bai et al. 2023, arXiv 2309.16609, §2.5).
    ///
    /// Errors: a context of fewer than 2 tokens, whose logarithm measures nothing; more queries than heads.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::blocks::{Chain, Pairing, Rope, Stage};
    /// let rope = Rope::new(vec![1.0, 0.1], Pairing::Halves, 1)?;
    /// let turned = |rope: Rope, tokens: usize| -> Result<Vec<f64>> {
    ///     let x = Tensor::ones((1, tokens, 4), DType::F64, &Device::Cpu)?;
    ///     Ok(Chain::new(vec![Stage::Rope(rope)]).forward(&x, None, &mut Clear)?.flatten_all()?.to_vec1()?)
    /// };
    /// assert_eq!(turned(rope.clone().stretching(8, 1)?, 8)?, turned(rope.clone(), 8)?);    // within the context
    /// assert_ne!(turned(rope.clone().stretching(8, 1)?, 9)?, turned(rope, 9)?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn stretching(self, context: usize, queries: usize) -> Result<Self> {
        match context >= 2 && queries <= self.heads {
            true => Ok(Self { stretch: Some(Stretch { context, queries }), ..self }),
            false => Err(Error::argument(format!(
                "rotary embeddings stretch beyond a context of 2 tokens at least, got {context}, and {queries} queries are to be \
                 among {} heads",
                self.heads
            ))),
        }
    }

    /// Where a token of a pass stands.
    fn position(&self, shape: &Shape, token: usize) -> Position {
        let in_a_row = [(shape.first_position() + token) as u32; 3];
        self.places.as_ref().or(shape.positions.as_ref()).map_or(in_a_row, |positions| positions[token])
    }

    /// For every token of a pass, the cosines of all pairs and then their sines, these times `sign`.
    fn angles<T: Real>(&self, shape: &Shape, sign: T) -> Vec<T> {
        let (half, frequencies) = (self.frequencies.len(), self.frequencies_for(shape));
        let mut angles = vec![T::zero(); shape.tokens * 2 * half];
        for (token, row) in angles.chunks_exact_mut(2 * half).enumerate() {
            let (position, (cosines, sines)) = (self.position(shape, token), row.split_at_mut(half));
            for (i, (theta, &axis)) in frequencies.iter().zip(&self.axes).enumerate() {
                let (sin, cos) = (f64::from(position[axis]) * theta).sin_cos();
                (cosines[i], sines[i]) = (T::lit(cos), sign * T::lit(sin));
            }
        }
        angles
    }

    /// Every pair's frequency in a pass, which is lower beyond the context.
    fn frequencies_for(&self, shape: &Shape) -> Vec<f64> {
        let slower = self.stretch.map_or(1.0, |stretch| stretch.ntk(shape, self.frequencies.len()));
        (0..).zip(&self.frequencies).map(|(i, theta)| theta * slower.powi(i)).collect()
    }

    /// What the queries of a token are multiplied with; nothing, if every query is left as it is.
    fn lengths<T: Real>(&self, shape: &Shape) -> Option<(Vec<T>, usize)> {
        let stretch = self.stretch.filter(|stretch| shape.first_position() + shape.tokens > stretch.context)?;
        let length = |token| T::lit(stretch.log_n(self.position(shape, token)[0] as usize + 1));
        Some(((0..shape.tokens).map(length).collect(), stretch.queries))
    }

    /// Of the channels of a head, in x's place: the angle of each token's, `(t,d)`; −1 for the first of a pair and 1 for the second,
    /// `(d,)`; and the number of the other one, `(d,)`.
    fn of_channels(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<(Tensor, Tensor, Tensor)> {
        let d = 2 * self.frequencies.len();
        let (mut theta, mut axis, mut sign, mut partner) = (vec![0.0; d], vec![0u32; d], vec![1.0; d], vec![0u32; d]);
        for (i, (frequency, along)) in self.frequencies_for(shape).into_iter().zip(&self.axes).enumerate() {
            let (a, b) = self.pair(i);
            (partner[a], partner[b], sign[a]) = (b as u32, a as u32, -1.0);
            for channel in [a, b] {
                (theta[channel], axis[channel]) = (frequency, *along as u32);
            }
        }
        let places: Vec<u32> = (0..shape.tokens).flat_map(|token| self.position(shape, token)).collect();
        let places = Tensor::from_vec(places, (shape.tokens, 3), x.device())?
            .to_dtype(wide(x))?
            .index_select(&Tensor::new(axis, x.device())?, 1)?;
        let numbers = |values: Vec<f64>| Tensor::new(values, &Device::Cpu)?.to_dtype(wide(x))?.to_device(x.device());
        Ok((places.broadcast_mul(&numbers(theta)?)?, numbers(sign)?, Tensor::new(partner, x.device())?))
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
        let (half, angles) = (self.frequencies.len(), self.angles::<T>(shape, sign));
        for example in x.chunks_exact_mut(shape.tokens * shape.channels) {
            for (row, angles) in example.chunks_exact_mut(shape.channels).zip(angles.chunks_exact(2 * half)) {
                let heads = row.chunks_exact_mut(2 * half).take(self.heads);
                match self.pairing {
                    Pairing::Halves => turn_halves(heads, angles),
                    Pairing::Neighbours => turn_neighbours(heads, angles),
                }
            }
        }
        self.lengthen(&mut x, shape);
        x
    }

    /// Queries times their lengths, forwards and back alike.
    fn lengthen<T: Real>(&self, x: &mut [T], shape: &Shape) {
        let Some((lengths, queries)) = self.lengths::<T>(shape) else { return };
        for example in x.chunks_exact_mut(shape.tokens * shape.channels) {
            for (row, &length) in example.chunks_exact_mut(shape.channels).zip(&lengths) {
                row[..queries * 2 * self.frequencies.len()].iter_mut().for_each(|q| *q *= length);
            }
        }
    }
}

/// Channel i with channel i + d/2, in every head of a token.
fn turn_halves<'a, T: Real>(heads: impl Iterator<Item = &'a mut [T]>, angles: &[T]) {
    let (cos, sin) = angles.split_at(angles.len() / 2);
    simd(
        #[inline(always)]
        || {
            for head in heads {
                let (a, b) = head.split_at_mut(cos.len());
                for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        },
    );
}

/// Channel 2i with channel 2i + 1.
fn turn_neighbours<'a, T: Real>(heads: impl Iterator<Item = &'a mut [T]>, angles: &[T]) {
    let (cos, sin) = angles.split_at(angles.len() / 2);
    for head in heads {
        for ((pair, &cos), &sin) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
            (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin);
        }
    }
}

impl Stretch {
    /// α^(−2/(d−2)): what each pair's frequency is multiplied with once more than that of the pair before.
    fn ntk(self, shape: &Shape, half: usize) -> f64 {
        let tokens = (shape.first_position() + shape.tokens) as f64;
        let alpha = ((tokens / self.context as f64).log2() + 1.0).ceil().exp2() - 1.0;
        alpha.max(1.0).powf(-2.0 / (2 * half - 2) as f64)
    }

    fn log_n(self, n: usize) -> f64 {
        ((n as f64).ln() / (self.context as f64).ln()).max(1.0)
    }
}

impl Block for Rope {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        self.fits(shape)?;
        Ok((self.turn(x, shape, T::one()), Vec::new()))
    }

    fn backward<T: Real>(&self, _: &[Rows<T>], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        Ok(self.turn(dy, shape, -T::one()))
    }

    /// y = x·cos + (x with each pair (a, b) made (−b, a))·sin, the latter by a lookup of channels.
    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        self.fits(shape)?;
        let (d, (n, t, channels)) = (2 * self.frequencies.len(), x.dims3()?);
        let width = self.heads * d;
        let (angles, signs, partners) = self.of_channels(x, shape)?;
        let table = |values: Tensor| values.to_dtype(x.dtype())?.reshape((1, t, 1, d));
        let heads = x.narrow(2, 0, width)?.contiguous()?.reshape((n, t, self.heads, d))?;
        let (cos, sin) = (table(angles.cos()?)?, table(angles.sin()?.broadcast_mul(&signs)?)?);
        let turned = (heads.broadcast_mul(&cos)? + heads.index_select(&partners, 3)?.broadcast_mul(&sin)?)?;
        let turned = match self.lengths::<f64>(shape) {
            Some((lengths, queries)) => {
                let lengths = Tensor::from_vec(lengths, (t, 1, 1), &Device::Cpu)?.to_dtype(x.dtype())?;
                let longer = turned.narrow(2, 0, queries)?.broadcast_mul(&lengths.to_device(x.device())?)?;
                Tensor::cat(&[longer, turned.narrow(2, queries, self.heads - queries)?], 2)?
            }
            None => turned,
        };
        Tensor::cat(&[turned.flatten_from(2)?, x.narrow(2, width, channels - width)?], 2)
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let least = 2 * self.heads * self.frequencies.len();
        let wrong = || Error::shape("packed q, k, v", format!("(n, t, c), c at least {least}"), &[channels]);
        if channels >= least { Ok(channels) } else { Err(wrong()) }
    }
}
