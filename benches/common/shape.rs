//! What models are made of, how much they are asked, and how many multiply–adds that needs at least.
//!
//! Counted are matrix products, the smallest that give the exact answer: no product for what nobody reads, causal attention only over
//! what is seen, beginnings that several texts share once. The walk back to a model's input has each product with a weight once (weights
//! are constants), and each product of two activations, in attention, twice.

use std::iter::Sum;
use std::ops::{Add, Mul, Range};

use serde::{Deserialize, Serialize};

/// What a model is made of: what the peers' scripts make it from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub kind: String,
    pub layers: usize,
    pub channels: usize,
    pub heads: usize,
    /// Heads of keys and values, each of which serves several heads of queries.
    pub shared: usize,
    /// Channels within a feed-forward part.
    pub inner: usize,
    /// Tokens that it knows, or classes.
    pub vocabulary: usize,
    /// The longest text.
    pub places: usize,
    /// The standard deviation of its random weights.
    pub spread: f64,
    /// A picture's side, in pixels; 0 where there are none.
    pub side: usize,
    /// The vision tower in front of a language model.
    pub eyes: Option<Eyes>,
}

/// A vision tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eyes {
    pub layers: usize,
    pub channels: usize,
    pub heads: usize,
    pub inner: usize,
}

/// How much a model is asked. What a family does not know is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Of the prompt.
    pub tokens: usize,
    /// Tokens of the continuation.
    pub said: usize,
    /// Points of the path.
    pub steps: usize,
    pub sources: usize,
    pub masks: usize,
}

/// Multiply–adds: of products with weights, and of products of two activations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub weights: f64,
    pub activations: f64,
}

impl Cost {
    pub fn weights(count: usize) -> Self {
        Self { weights: count as f64, activations: 0.0 }
    }

    pub fn forward(self) -> f64 {
        self.weights + self.activations
    }

    pub fn back(self) -> f64 {
        self.weights + 2.0 * self.activations
    }

    /// Integrated Gradients in so many steps: there and back at each, and there at both ends.
    pub fn integrated(self, steps: usize) -> f64 {
        steps as f64 * (self.forward() + self.back()) + 2.0 * self.forward()
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { weights: self.weights + other.weights, activations: self.activations + other.activations }
    }
}

impl Mul<f64> for Cost {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self { weights: self.weights * times, activations: self.activations * times }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}

/// A stack of transformer blocks.
#[derive(Clone, Copy, Debug)]
pub struct Tower {
    pub layers: usize,
    pub channels: usize,
    /// Channels of all keys, and of all values.
    pub keys: usize,
    pub inner: usize,
    /// Matrices of a feed-forward part: 2, or 3 with a gate.
    pub matrices: usize,
}

impl Tower {
    /// A block in which `places` give keys and values, and `worked` of them are worked on and look at `seen` places together.
    fn block(&self, places: usize, worked: usize, seen: usize) -> Cost {
        let Self { channels: c, keys, inner, matrices, .. } = *self;
        let weights = places * 2 * c * keys + worked * (2 * c * c + matrices * c * inner);
        Cost { weights: weights as f64, activations: (2 * seen * c) as f64 }
    }

    /// All blocks over so many places that see each other, `read` of which are read at the end.
    pub fn full(&self, places: usize, read: usize) -> Cost {
        self.block(places, places, places * places) * (self.layers - 1) as f64 + self.block(places, read, read * places)
    }

    /// All blocks over these places, which see themselves and all before them, what was before being known; of them those from `read` on are read
    /// at the end.
    pub fn causal(&self, places: Range<usize>, read: usize) -> Cost {
        let all = self.block(places.len(), places.len(), triangle(&places));
        let read = read.max(places.start)..places.end;
        all * (self.layers - 1) as f64 + self.block(places.len(), read.len(), triangle(&read))
    }

    /// All blocks over so many places after `past` that are known, of which they see `kept`; the last `read` are read at the end.
    pub fn after(&self, kept: usize, places: usize, read: usize) -> Cost {
        self.causal(kept..kept + places, kept + places - read)
    }

    /// The products that give queries and keys, where all places but for the last block's queries are worked on.
    pub fn queries_and_keys(&self, places: usize) -> Cost {
        let (c, l) = (self.channels, self.layers);
        Cost::weights(l * places * c * self.keys + (l - 1) * places * c * c + c * c)
    }
}

/// How many places these see, each itself and all before it.
fn triangle(places: &Range<usize>) -> usize {
    let upto = |n: usize| n * (n + 1) / 2;
    upto(places.end) - upto(places.start.min(places.end))
}

impl Model {
    /// The blocks of a classifier, with two matrices in a feed-forward part, or of a language model, with three.
    pub fn tower(&self) -> Tower {
        let keys = self.channels * self.shared / self.heads;
        let matrices = if matches!(self.kind.as_str(), "bert" | "vit") { 2 } else { 3 };
        Tower { layers: self.layers, channels: self.channels, keys, inner: self.inner, matrices }
    }

    /// The vocabulary at so many places.
    pub fn head(&self, places: usize) -> Cost {
        Cost::weights(places * self.channels * self.vocabulary)
    }
}

impl Eyes {
    pub fn tower(&self) -> Tower {
        Tower { layers: self.layers, channels: self.channels, keys: self.channels, inner: self.inner, matrices: 2 }
    }
}
