//! Writing on: one token after another, each from all before it.

use candle_core::Tensor;
use rand::SeedableRng;
use rand::distr::{Distribution, weighted::WeightedIndex};
use rand_chacha::ChaCha8Rng;

use super::CausalLm;
use super::prefix::Past;
use crate::model::text::{Continuation, Text, fit};
use crate::progress::Progress;
use crate::tensor::{finite, numbers};
use crate::{Error, Result};

/// How the next token is chosen.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
/// let says = |sampling: Sampling| -> Result<String> { Ok(llm.generate(&prompt, &sampling)?.text().to_string()) };
/// assert_eq!(says(Sampling::random(8, 1.0, 3))?, says(Sampling::random(8, 1.0, 3))?);    // same seed, same text
/// assert_eq!(says(Sampling::random(8, 1.0, 3).top_p(1e-9))?, says(Sampling::greedy(8))?);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// So many tokens at most.
    pub tokens: usize,
    /// What logits are divided by; 0 takes the most probable token every time.
    pub temperature: f64,
    /// Only the most probable tokens that together have this probability (Holtzman et al. 2020, arXiv 1904.09751).
    pub top_p: f64,
    /// Same seed, same text.
    pub seed: u64,
}

impl Sampling {
    /// The most probable token every time, `tokens` at most.
    pub fn greedy(tokens: usize) -> Self {
        Self { tokens, temperature: 0.0, top_p: 1.0, seed: 0 }
    }

    /// Tokens drawn by their probability at a temperature.
    pub fn random(tokens: usize, temperature: f64, seed: u64) -> Self {
        Self { tokens, temperature, top_p: 1.0, seed }
    }

    /// The same among the most probable tokens that together have probability `top_p`.
    pub fn top_p(self, top_p: f64) -> Self {
        Self { top_p, ..self }
    }

    fn check(&self) -> Result<()> {
        let problem = match self {
            Self { tokens: 0, .. } => "generate at least one token",
            Self { temperature, .. } if !temperature.is_finite() || *temperature < 0.0 => {
                "the temperature must be a number ≥ 0"
            }
            Self { top_p, .. } if !(0.0..=1.0).contains(top_p) || *top_p == 0.0 => {
                "top_p must be above 0 and at most 1"
            }
            _ => return Ok(()),
        };
        Err(Error::argument(problem))
    }

    /// The next token, given all tokens' logits.
    fn choose(&self, logits: &[f64], rng: &mut ChaCha8Rng) -> Result<u32> {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        if self.temperature == 0.0 {
            return Ok(order[0] as u32);
        }
        let weights: Vec<f64> =
            order.iter().map(|&id| ((logits[id] - logits[order[0]]) / self.temperature).exp()).collect();
        let enough = self.top_p * weights.iter().sum::<f64>();
        let before = weights.iter().scan(0.0, |sum, weight| Some(std::mem::replace(sum, *sum + weight)));
        let kept = before.take_while(|&sum| sum < enough).count();
        let drawn = WeightedIndex::new(&weights[..kept.max(1)]).map_err(Error::argument)?.sample(rng);
        Ok(order[drawn] as u32)
    }
}

impl CausalLm {
    /// Writes a prompt's continuation, until the model ends the text or `sampling.tokens` are written.
    ///
    /// Each step reads one token: queries, keys and values of those before are kept. Beyond the length that the first Qwen was
    /// trained with, each reads the whole text anew. Long work reports its progress.
    ///
    /// It also ends where the context does.
    ///
    /// Errors: no tokens asked for; a prompt that fills the context; the model ends the text at once; logits that are not
    /// finite.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.chat(&[Message::user(
    ///     "Context: Sarah drives a brown bus. The lamp is in the bedroom.\n\nQuestion: Where is the lamp?",
    /// )])?;
    /// assert_eq!(llm.generate(&prompt, &Sampling::greedy(16))?.text().trim(), "The lamp is in the bedroom.");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn generate(&self, prompt: &Text, sampling: &Sampling) -> Result<Continuation> {
        self.write_on(Past::default(), self.embed(prompt)?.unsqueeze(0)?, prompt, sampling)
    }

    /// The same after a past, from embeddings `(1,t,c)` of a prompt's tokens that are not in it.
    pub(in crate::model) fn write_on(
        &self,
        mut past: Past,
        mut x: Tensor,
        prompt: &Text,
        sampling: &Sampling,
    ) -> Result<Continuation> {
        sampling.check()?;
        fit(prompt.len() + 1, self.0.config.positions())?;
        let (room, mut rng) = (self.0.config.positions(), ChaCha8Rng::seed_from_u64(sampling.seed));
        let (start, given) = (past.clone(), x.clone());
        let mut progress = Progress::new("generated tokens", sampling.tokens);
        let mut ids = Vec::new();
        while ids.len() < sampling.tokens && prompt.len() + ids.len() < room {
            let (hidden, extended) = self.extend(&past, &x)?;
            let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?;
            let logits = numbers(&self.read_out(&last)?)?;
            finite("a logit", &logits)?;
            let id = sampling.choose(&logits, &mut rng)?;
            if self.0.end_of_text.contains(&id) {
                break;
            }
            ids.push(id);
            (past, x) = match self.stretches(prompt.len() + ids.len()) {
                true => (start.clone(), Tensor::cat(&[&given, &self.embed_ids(&ids)?.unsqueeze(0)?], 1)?),
                false => (extended, self.embed_ids(&[id])?.unsqueeze(0)?),
            };
            progress.advance(1);
        }
        self.0.tokenizer.continuation_of(prompt, &ids)
    }
}
