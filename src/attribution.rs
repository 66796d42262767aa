//! What every method returns: scores over features, what they promised, and how far they are from it.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::text::{Text, Token};
use crate::tensor::{finite, numbers};
use crate::{Error, Result};

/// Scores over the features of one input, for one target.
///
/// Positive scores support the target, negative ones speak against it. Fresh from a method, the features are the elements
/// of the input tensor; [`over`](Self::over) sums a token's channels, [`words`](Self::words) a word's pieces. Sums keep
/// their sign, so the total, and with it the completeness gap, never changes.
///
/// `serde_json` writes and reads it without loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The method, in words: «integrated gradients».
    pub method: String,
    /// What was explained: «logit of `positive`».
    pub target: String,
    /// What the scores are over.
    pub features: Features,
    /// One score per feature, row-major for elements.
    pub scores: Vec<f64>,
    /// The law the method promises, where it promises one.
    pub completeness: Option<Completeness>,
    /// The seed of methods that draw random numbers.
    pub seed: Option<u64>,
    /// The method's settings, by name: steps, rule, σ, draws, window.
    pub settings: BTreeMap<String, String>,
}

/// What scores are over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Features {
    /// The elements of a tensor of this shape.
    Elements {
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// Tokens of a text.
    Tokens {
        /// The text.
        text: String,
        /// Its tokens, special ones included.
        tokens: Vec<Token>,
    },
    /// Whole words of a text; special tokens stay by themselves.
    Words {
        /// The text.
        text: String,
        /// Its words.
        tokens: Vec<Token>,
    },
}

/// The completeness axiom, f(x) − f(x′) = Σ scores (Sundararajan et al. 2017, proposition 1), and by how much it was missed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completeness {
    /// f(x) − f(x′), in the target's unit.
    pub promised: f64,
    /// Σ scores.
    pub got: f64,
    /// |got − promised| / |promised|; a promise smaller than the rounding floor counts as the floor.
    pub relative_gap: f64,
    /// What rounding alone may contribute: ε·√n·(|f(x)| + |f(x′)| + Σ|score|), ε being the precision of the arithmetic and n
    /// the number of steps. A gap of this size says nothing about the steps.
    pub rounding_floor: f64,
    /// Steps that were used.
    pub steps: usize,
    /// The relative gap that was asked for, if one was.
    pub tolerance: Option<f64>,
}

impl Completeness {
    /// From the ends' values and the scores.
    pub(crate) fn new(ends: (f64, f64), scores: &[f64], dtype: DType, steps: usize, tolerance: Option<f64>) -> Self {
        let (promised, got) = (ends.0 - ends.1, scores.iter().sum::<f64>());
        let sizes = ends.0.abs() + ends.1.abs() + scores.iter().map(|s| s.abs()).sum::<f64>();
        let rounding_floor = epsilon(dtype) * (steps as f64).sqrt() * sizes;
        let relative_gap = (got - promised).abs() / promised.abs().max(rounding_floor).max(f64::MIN_POSITIVE);
        Self { promised, got, relative_gap, rounding_floor, steps, tolerance }
    }

    /// Σ scores − (f(x) − f(x′)): Captum's convergence delta, with its sign.
    pub fn gap(&self) -> f64 {
        self.got - self.promised
    }

    /// Whether the tolerance that was asked for was reached, or rounding forbids to come closer. True if none was asked for.
    pub fn reached(&self) -> bool {
        self.tolerance.is_none_or(|tolerance| self.relative_gap <= tolerance || self.gap().abs() <= self.rounding_floor)
    }
}

fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => f64::from(f32::EPSILON),
    }
}

impl Attribution {
    /// Scores over the elements of a tensor.
    pub(crate) fn of_elements(method: &str, scores: &Tensor) -> Result<Self> {
        let values = numbers(scores)?;
        finite("a score", &values)?;
        Ok(Self {
            method: method.into(),
            target: "f(x)".into(),
            features: Features::Elements { shape: scores.dims().to_vec() },
            scores: values,
            completeness: None,
            seed: None,
            settings: BTreeMap::new(),
        })
    }

    pub(crate) fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.insert(name.into(), value.to_string());
        self
    }

    /// The same scores with the target named, which a method that sees only f cannot know.
    pub fn named(mut self, target: impl ToString) -> Self {
        self.target = target.to_string();
        self
    }

    /// `(t,c)` or `(t,)` elements → tokens: Σ over the channels of each token.
    ///
    /// Errors: the scores are not over the elements of a tensor with one row per token of `text`.
    pub fn over(mut self, text: &Text) -> Result<Self> {
        let Features::Elements { shape } = &self.features else {
            return Err(Error::argument("these scores are over tokens already"));
        };
        if !matches!(shape.len(), 1 | 2) || shape[0] != text.len() {
            return Err(Error::shape("the scores", format!("({0}, c) or ({0},), a row per token", text.len()), shape));
        }
        self.consistent()?;
        let channels = self.scores.len() / text.len();
        self.scores = self.scores.chunks(channels).map(|row| row.iter().sum()).collect();
        self.features = Features::Tokens { text: text.source().into(), tokens: text.tokens().to_vec() };
        Ok(self)
    }

    /// Tokens → words: Σ over the pieces of each word. Special tokens stay by themselves; words stay as they are.
    ///
    /// Errors: the scores are over elements (call [`over`](Self::over) first).
    pub fn words(&self) -> Result<Self> {
        self.consistent()?;
        let (text, tokens) = match &self.features {
            Features::Tokens { text, tokens } => (text, tokens),
            Features::Words { .. } => return Ok(self.clone()),
            Features::Elements { .. } => {
                return Err(Error::argument(
                    "only scores over tokens can be summed to words: call `over(&text)` first",
                ));
            }
        };
        let mut words: Vec<(Token, f64)> = Vec::new();
        for (token, &score) in tokens.iter().zip(&self.scores) {
            match words.last_mut() {
                Some((last, total)) if token.continues(last) => {
                    last.absorb(token, text);
                    *total += score;
                }
                _ => words.push((token.as_word(text), score)),
            }
        }
        let (words, scores) = words.into_iter().unzip();
        Ok(Self { features: Features::Words { text: text.clone(), tokens: words }, scores, ..self.clone() })
    }

    /// The tokens or words the scores are over; none for elements.
    pub fn tokens(&self) -> &[Token] {
        match &self.features {
            Features::Tokens { tokens, .. } | Features::Words { tokens, .. } => tokens,
            Features::Elements { .. } => &[],
        }
    }

    /// The scores as a tensor of the features' shape, `f64`.
    pub fn tensor(&self) -> Result<Tensor> {
        let shape = match &self.features {
            Features::Elements { shape } => shape.clone(),
            _ => vec![self.scores.len()],
        };
        Ok(Tensor::from_slice(&self.scores, shape, &Device::Cpu)?)
    }

    /// Σ scores.
    pub fn sum(&self) -> f64 {
        self.scores.iter().sum()
    }

    /// Indices of the features, largest |score| first.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.scores.len()).collect();
        order.sort_by(|&a, &b| self.scores[b].abs().total_cmp(&self.scores[a].abs()));
        order
    }

    /// The k features of largest |score|, special tokens left out: their text and score.
    pub fn top(&self, k: usize) -> Vec<(String, f64)> {
        let tokens = self.tokens();
        let plain = self.order().into_iter().filter(|&i| tokens.get(i).is_none_or(|token| !token.special));
        let name = |i: usize| tokens.get(i).map_or(format!("x[{i}]"), |token| token.text.clone());
        plain.take(k).map(|i| (name(i), self.scores[i])).collect()
    }

    /// The attribution as JSON.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// Errors: not JSON of an attribution, or not one score per feature.
    pub fn from_json(json: &str) -> Result<Self> {
        let attribution: Self = serde_json::from_str(json)?;
        attribution.consistent()?;
        Ok(attribution)
    }

    /// Errors unless there is one score per feature.
    pub(crate) fn consistent(&self) -> Result<()> {
        let features = match &self.features {
            Features::Elements { shape } => shape.iter().product(),
            Features::Tokens { tokens, .. } | Features::Words { tokens, .. } => tokens.len(),
        };
        match self.scores.len() == features {
            true => Ok(()),
            false => Err(Error::shape("the scores", format!("({features},), one per feature"), &[self.scores.len()])),
        }
    }
}
