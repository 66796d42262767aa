//! An answer and its context: the model asked once for each mask, and then any span of the answer.

use std::ops::Range;

use candle_core::Tensor;

use super::{Masks, Sources, Surrogate, fit_context_surrogate, span_logit, token_log_odds};
use crate::attribution::Attribution;
use crate::model::CausalLm;
use crate::model::text::{Continuation, Text};
use crate::progress::Progress;
use crate::tensor::numbers;
use crate::{Error, Result};

/// What context-cite asks a model: a context and a query, as the message of a user.
///
/// ```
/// assert_eq!(pellucid::context_prompt("It rains.", "Is it wet?"), "Context: It rains.\n\nQuery: Is it wet?");
/// ```
pub fn context_prompt(context: &str, query: &str) -> String {
    format!("Context: {context}\n\nQuery: {query}")
}

/// How likely a model would have given an answer, token by token, for each of m masks over the sources of its context.
///
/// The passes are made once; any span of the answer can then be [`attributed`](Self::attribute_span) without another.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
/// let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
/// let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
///
/// let cited = ContextCite::new(&llm, &sources, &draw_masks(sources.len(), 32, 0.5, 0)?, &said, prompt)?;
/// let why = cited.attribute_span(said.span("bedroom")?, 0.01)?;
/// assert_eq!(why.top(1)[0].0, "The lamp is in the bedroom.");
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ContextCite {
    sources: Sources,
    said: Continuation,
    masks: Masks,
    /// `(m,o)`.
    log_odds: Vec<Vec<f64>>,
}

impl ContextCite {
    /// One pass for each mask that differs. `prompt` turns a context into what the model reads, which is read anew without the
    /// sources that are dropped; the answer's tokens stay those they are, whether the model gave it or somebody else.
    ///
    /// Errors: masks over another number of sources; those of `prompt`; a prompt that is empty; prompt and answer longer than
    /// the model's context; logits that are not finite.
    pub fn new(
        llm: &CausalLm,
        sources: &Sources,
        masks: &Masks,
        said: &Continuation,
        prompt: impl Fn(&str) -> Result<Text>,
    ) -> Result<Self> {
        let mut distinct: Vec<&Vec<bool>> = masks.rows().iter().collect();
        distinct.sort(); // neighbours begin alike, and what is alike is computed once
        distinct.dedup();
        let read = |keep: &&Vec<bool>| Ok(prompt(&sources.ablated_context(keep)?)?.ids());
        let prompts = distinct.iter().map(read).collect::<Result<Vec<_>>>()?;
        let passes = passes(llm, &prompts, said)?;
        let of = |row: &Vec<bool>| distinct.binary_search(&row).ok().map(|at| passes[at].clone());
        let log_odds = masks.rows().iter().filter_map(of).collect();
        Ok(Self { sources: sources.clone(), said: said.clone(), masks: masks.clone(), log_odds })
    }

    /// The sources.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The answer.
    pub fn said(&self) -> &Continuation {
        &self.said
    }

    /// The masks.
    pub fn masks(&self) -> &Masks {
        &self.masks
    }

    /// Every token's log-odds for every mask, `(m,o)`.
    pub fn log_odds(&self) -> Result<Tensor> {
        Ok(Tensor::new(self.log_odds.clone(), &candle_core::Device::Cpu)?)
    }

    /// The log-odds of a span of the answer's tokens for every mask, `(m,)`: see [`span_logit`].
    ///
    /// Errors: an empty span, or one that sticks out.
    pub fn outputs(&self, span: Range<usize>) -> Result<Vec<f64>> {
        let out = || Error::argument(format!("a span must lie within 0..{} and not be empty", self.said.len()));
        let of = |row: &Vec<f64>| span_logit(row.get(span.clone()).filter(|some| !some.is_empty()).ok_or_else(out)?);
        self.log_odds.iter().map(of).collect()
    }

    /// The surrogate of a span of the answer's tokens, with α for each of them; context-cite takes 0.01.
    ///
    /// Errors: those of [`outputs`](Self::outputs) and [`fit_context_surrogate`].
    pub fn surrogate(&self, span: Range<usize>, alpha: f64) -> Result<Surrogate> {
        fit_context_surrogate(&self.masks, &self.outputs(span.clone())?, alpha * span.len() as f64)
    }

    /// The surrogate's weights as scores of the sources, in nats: how much each of them adds to the span's log-odds.
    ///
    /// Errors: those of [`surrogate`](Self::surrogate).
    ///
    /// **When it misleads**: what the answer says before the span is given, so that a source may matter through it alone; and
    /// no large score may mean that the model knew, or made it up.
    pub fn attribute_span(&self, span: Range<usize>, alpha: f64) -> Result<Attribution> {
        let surrogate = self.surrogate(span.clone(), alpha)?;
        let text: String = self.said.tokens()[span].iter().map(|token| token.text.as_str()).collect();
        let scores = Attribution::of_elements("ContextCite", &[self.sources.len()], surrogate.weights)?;
        let scores = Attribution { features: self.sources.features(), ..scores }.named(format!("«{}»", text.trim()));
        Ok(scores.setting("masks", self.masks.len()).setting("α", alpha).setting("duality gap", surrogate.gap))
    }
}

/// Log-odds of an answer's tokens after every prompt, `(m,o)`, a few prompts at a time.
fn passes(llm: &CausalLm, prompts: &[Vec<u32>], said: &Continuation) -> Result<Vec<Vec<f64>>> {
    const TOGETHER: usize = 8;
    let (mut passes, mut progress) = (Vec::new(), Progress::new("ContextCite, masks", prompts.len()));
    for some in prompts.chunks(TOGETHER) {
        let odds = token_log_odds(&llm.continuation_logits_after(some, said)?, &said.ids())?;
        passes.extend(numbers(&odds)?.chunks(said.len()).map(<[f64]>::to_vec));
        progress.advance(some.len());
    }
    Ok(passes)
}
