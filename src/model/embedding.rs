//! The vectors that stand for tokens, and those that stand for «nothing there».

use std::ops::Range;

use candle_core::{Device, Tensor};

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

    /// Where it is.
    pub fn device(&self) -> Device {
        self.weight.device()
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
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I loved the movie")?;
/// let masked = bert.baseline(&text, &Baseline::token("[MASK]").keeping(text.span("the movie")?))?;
/// let changed = (bert.embed(&text)? - masked)?.abs()?.sum(1)?.to_vec1::<f32>()?;
/// let changed: Vec<bool> = changed.into_iter().map(|by| by > 0.0).collect();
/// assert_eq!(changed, [false, true, true, false, false, false]);    // [CLS] I loved the movie [SEP]
/// # Ok::<(), pellucid::Error>(())
/// ```
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
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved the movie")?;
    /// let zero = bert.baseline(&text, &Baseline::zero())?;
    /// assert_eq!(zero.i(2)?.abs()?.max_all()?.to_scalar::<f32>()?, 0.0);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn zero() -> Self {
        Self::of(Absence::Zero)
    }

    /// A token of the vocabulary, such as `[MASK]`, `<unk>` or ` `, in place of every token.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved the movie")?;
    /// let masked = bert.baseline(&text, &Baseline::token("[MASK]"))?;
    /// assert_eq!(masked.i(2)?.to_vec1::<f32>()?, masked.i(3)?.to_vec1::<f32>()?);    // two words, one vector
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn token(token: &str) -> Self {
        Self::of(Absence::Token(token.into()))
    }

    /// A token of the vocabulary by its number. (Captum's default for language models is 0, which in many vocabularies
    /// is `!`.)
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved the movie")?;
    /// let by_number = bert.baseline(&text, &Baseline::id(bert.tokenizer().id("[MASK]")?))?;
    /// assert_eq!(by_number.to_vec2::<f32>()?, bert.baseline(&text, &Baseline::token("[MASK]"))?.to_vec2::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn id(id: u32) -> Self {
        Self::of(Absence::Id(id))
    }

    /// The mean of the vocabulary's embeddings in place of every token's.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved the movie")?;
    /// let mean = bert.baseline(&text, &Baseline::mean())?;
    /// let size = |x: Tensor| -> Result<f32> { Ok(x.sqr()?.sum_all()?.to_scalar()?) };
    /// assert!(size(mean.i(2)?)? < size(bert.embed(&text)?.i(2)?)?);    // shorter than any word's
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn mean() -> Self {
        Self::of(Absence::Mean)
    }

    fn of(what: Absence) -> Self {
        Self { what, everywhere: false, kept: Vec::new() }
    }

    /// Also in place of the special tokens, which otherwise stay.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved the movie")?;
    /// let zero = bert.baseline(&text, &Baseline::zero().everywhere())?;
    /// assert_eq!(zero.abs()?.max_all()?.to_scalar::<f32>()?, 0.0);    // [CLS] and [SEP] too
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn everywhere(self) -> Self {
        Self { everywhere: true, ..self }
    }

    /// Not in place of these tokens, by their places in the text, which stay as well.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
    /// let city = prompt.span("Austin")?;
    /// let kept = llm.baseline(&prompt, &Baseline::zero().keeping(city.clone()))?;
    /// assert_eq!(kept.i(city.clone())?.to_vec2::<f32>()?, llm.embed(&prompt)?.i(city)?.to_vec2::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
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
