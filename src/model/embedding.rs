//! The vectors that stand for tokens, and those that stand for «nothing there».

use std::ops::Range;

use candle_core::Tensor;

use super::blocks::{Linear, Weight};
use super::text::{Text, Tokenizer};
use crate::tensor::mean_over;
use crate::{Error, Result};

/// A vocabulary's embeddings, `(v,c)`.
#[derive(Clone)]
pub(crate) struct Embedding {
    weight: Weight,
}

impl Embedding {
    /// From `(v,c)`.
    pub fn new(weight: Weight) -> Self {
        Self { weight }
    }

    /// The embeddings of token ids, `(t,c)`.
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        let tokens = self.weight.dims()[0];
        match ids.iter().find(|&&id| id as usize >= tokens) {
            Some(&id) => Err(Error::out_of_range("token id", id as usize, tokens)),
            None => Ok(self.weight.rows(ids)?),
        }
    }

    /// The same matrix as a linear block from channels to tokens: tied embeddings.
    pub fn transposed(&self, bias: Option<Tensor>) -> Result<Linear> {
        Linear::of(self.weight.clone(), bias)
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> usize {
        self.weight.bytes()
    }

    /// All of them, `(v,c)`.
    pub fn whole(&self) -> Result<Tensor> {
        Ok(self.weight.dense()?)
    }

    /// The mean over the vocabulary, `(1,c)`.
    fn mean(&self) -> Result<Tensor> {
        mean_over(&self.weight.dense()?, 0)
    }

    /// A baseline's embeddings for a text, `(t,c)`.
    pub fn baseline(&self, text: &Text, baseline: &Baseline, tokenizer: &Tokenizer) -> Result<Tensor> {
        let x = self.rows(&text.ids())?;
        let absent = match &baseline.what {
            Absence::Zero => x.narrow(0, 0, 1)?.zeros_like()?,
            Absence::Token(token) => self.rows(&[tokenizer.id(token)?])?,
            Absence::Id(id) => self.rows(&[*id])?,
            Absence::Mean => self.mean()?,
        };
        let stays: Vec<u8> = (0..text.len()).map(|i| u8::from(baseline.keeps_token(text, i))).collect();
        let stays = Tensor::new(stays, x.device())?.unsqueeze(1)?.broadcast_as(x.shape())?;
        Ok(stays.where_cond(&x, &absent.broadcast_as(x.shape())?)?)
    }
}

/// The input that stands for «nothing there».
///
/// There is no right one, only explicit ones: an attribution explains the difference to its baseline. Tokens that a
/// baseline keeps are the same in both, so they score exactly 0: they are read, and not attributed to.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    what: Absence,
    everywhere: bool,
    kept: Vec<Range<usize>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Absence {
    Zero,
    Token(String),
    Id(u32),
    Mean,
}

impl Baseline {
    /// The zero vector in place of every token's embedding. No text embeds to it.
    ///
    /// **When it misleads**: a decoder's first norm divides by the embedding's size, so f(αx) hardly changes until α is
    /// nearly 0, and there it jumps: Integrated Gradients from zero take thousands of steps, or end with a large gap.
    pub fn zero() -> Self {
        Self::of(Absence::Zero)
    }

    /// A token of the vocabulary, such as `[MASK]`, `<unk>` or ` `, in place of every token.
    pub fn token(token: &str) -> Self {
        Self::of(Absence::Token(token.into()))
    }

    /// A token of the vocabulary by its number. (Captum's default for language models is 0, which in many vocabularies
    /// is `!`.)
    pub fn id(id: u32) -> Self {
        Self::of(Absence::Id(id))
    }

    /// The mean of the vocabulary's embeddings in place of every token's.
    pub fn mean() -> Self {
        Self::of(Absence::Mean)
    }

    fn of(what: Absence) -> Self {
        Self { what, everywhere: false, kept: Vec::new() }
    }

    /// Also in place of the special tokens, which otherwise stay.
    pub fn everywhere(self) -> Self {
        Self { everywhere: true, ..self }
    }

    /// Not in place of these tokens, by their places in the text, which stay as well.
    pub fn keeping(mut self, tokens: Range<usize>) -> Self {
        self.kept.push(tokens);
        self
    }

    /// Whether token i of a text stays.
    pub(crate) fn keeps_token(&self, text: &Text, i: usize) -> bool {
        let special = text.tokens()[i].special && !self.everywhere;
        special || self.kept.iter().any(|range| range.contains(&i))
    }
}
