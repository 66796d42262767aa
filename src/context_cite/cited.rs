//! An answer and its context: the model asked once for each mask, and then any span of the answer.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::fidelity::held_out;
use super::log_odds::surprise;
use super::passes::Asked;
use super::{Intervals, Masks, Passes, Sources, Surrogate, bootstrap_surrogate, fit_context_surrogate, span_logit};
use crate::agreement::rank_correlation;
use crate::attribution::{Attribution, Features};
use crate::bootstrap::Bootstrap;
use crate::model::CausalLm;
use crate::model::text::{Continuation, Text};
use crate::tensor::column_sums;
use crate::{Error, Result};

/// What context-cite asks a model: a context and a query, as the message of a user.
///
/// Errors: there is no query.
///
/// ```
/// assert_eq!(pellucid::context_prompt("It rains.", "Is it wet?")?, "Context: It rains.\n\nQuery: Is it wet?");
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn context_prompt(context: &str, query: &str) -> Result<String> {
    match query.trim().is_empty() {
        true => Err(Error::argument("the query is empty: what is the model to answer?")),
        false => Ok(format!("Context: {context}\n\nQuery: {query}")),
    }
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
    /// Unless all were: of the first masks, those that were asked exactly as well, `(checked,o)`.
    checked: Option<Vec<Vec<f64>>>,
}

impl ContextCite {
    /// One pass for each mask that differs. `prompt` turns a context into what the model reads, which is read anew without the
    /// sources that are dropped; the answer's tokens stay those they are, whether the model gave it or somebody else.
    ///
    /// Errors: masks over another number of sources; those of `prompt`; a prompt that is empty; prompt and answer longer than
    /// the model's context; logits that are not finite.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// let said = llm.generate(&prompt(sources.context())?, &Sampling::greedy(16))?;
    /// let cited = ContextCite::new(&llm, &sources, &Masks::leave_one_out(3)?, &said, prompt)?;
    /// assert_eq!(cited.log_odds()?.dims(), [4, said.len()]);    // (m,o)
    /// assert_eq!((cited.sources(), cited.said(), cited.masks().len()), (&sources, &said, 4));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn new(
        llm: &CausalLm,
        sources: &Sources,
        masks: &Masks,
        said: &Continuation,
        prompt: impl Fn(&str) -> Result<Text>,
    ) -> Result<Self> {
        Self::with_passes(llm, sources, masks, said, prompt, &Passes::exact())
    }

    /// The same in batches of one's own, or faster and nearly right: see [`Passes`].
    ///
    /// Errors: those of [`new`](Self::new); no batch; too few masks to check. For `fast`, a prompt that does not say the context
    /// as it is, or ends with it.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let masks = draw_masks(sources.len(), 16, 0.5, 0)?;
    /// let by = |passes: Passes| ContextCite::with_passes(&llm, &sources, &masks, &said, prompt, &passes);
    /// let gap = (by(Passes::exact().batch(1))?.log_odds()? - by(Passes::exact())?.log_odds()?)?.abs()?.max_all()?;
    /// assert!(gap.to_scalar::<f64>()? < 1e-3);    // batches do not matter
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn with_passes(
        llm: &CausalLm,
        sources: &Sources,
        masks: &Masks,
        said: &Continuation,
        prompt: impl Fn(&str) -> Result<Text>,
        passes: &Passes,
    ) -> Result<Self> {
        passes.check(masks)?;
        if masks.sources() != sources.len() {
            let wanted = format!("(m, {}), one per source", sources.len());
            return Err(Error::shape("what is kept", wanted, &[masks.len(), masks.sources()]));
        }
        let (rows, asked) = (masks.rows(), Asked { llm, sources, said, prompt: &prompt, batch: passes.batch });
        let (log_odds, checked) = match passes.checked {
            None => (asked.exactly(rows)?, None),
            Some(few) => (asked.fast(rows)?, Some(asked.exactly(&rows[..few])?)),
        };
        Ok(Self { sources: sources.clone(), said: said.clone(), masks: masks.clone(), log_odds, checked })
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
        Ok(Tensor::new(self.log_odds.clone(), &Device::Cpu)?)
    }

    /// The log-odds of a span of the answer's tokens for every mask, `(m,)`: see [`span_logit`].
    ///
    /// Errors: an empty span, or one that sticks out.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let cited = ContextCite::new(&llm, &sources, &Masks::leave_one_out(3)?, &said, prompt)?;
    /// let odds = cited.outputs(said.span("bedroom")?)?;    // all, and without 0, 1, 2
    /// assert!(odds[2] < odds[0] - 1.0);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn outputs(&self, span: Range<usize>) -> Result<Vec<f64>> {
        self.of_span(&self.log_odds, span)
    }

    /// ln p of a span of the answer's tokens for every mask, `(m,)`.
    ///
    /// Errors: those of [`outputs`](Self::outputs).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let cited = ContextCite::new(&llm, &sources, &Masks::leave_one_out(3)?, &said, prompt)?;
    /// let (span, whole) = (said.span("bedroom")?, 0..said.len());
    /// assert!(cited.log_probs(whole)?[0] <= cited.log_probs(span)?[0]);    // more is less likely
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn log_probs(&self, span: Range<usize>) -> Result<Vec<f64>> {
        Ok(self.outputs(span)?.into_iter().map(|odds| -surprise(odds)).collect())
    }

    /// Log-odds of a span from those of its tokens, for each row.
    fn of_span(&self, rows: &[Vec<f64>], span: Range<usize>) -> Result<Vec<f64>> {
        let out = || Error::argument(format!("a span must lie within 0..{} and not be empty", self.said.len()));
        let of = |row: &Vec<f64>| span_logit(row.get(span.clone()).filter(|some| !some.is_empty()).ok_or_else(out)?);
        rows.iter().map(of).collect()
    }

    /// Of [`Passes::fast`], how far it agrees with the exact passes on the masks that were asked both ways: the rank correlation
    /// of a span's log-odds, or `None` if one of the two ranks nothing.
    ///
    /// Errors: no mask was asked both ways; those of [`outputs`](Self::outputs).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let masks = draw_masks(sources.len(), 16, 0.5, 0)?;
    /// let exact = ContextCite::new(&llm, &sources, &masks, &said, prompt)?;
    /// assert!(exact.agreement(said.span("bedroom")?).is_err());    // nothing was asked both ways
    /// let fast = ContextCite::with_passes(&llm, &sources, &masks, &said, prompt, &Passes::fast(8))?;
    /// assert!(fast.agreement(said.span("bedroom")?)?.is_some());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn agreement(&self, span: Range<usize>) -> Result<Option<f64>> {
        let checked = self.checked.as_ref().filter(|checked| !checked.is_empty());
        let checked = checked.ok_or_else(|| Error::argument("no mask was asked both ways: see `Passes::fast`"))?;
        let nearly = self.of_span(&self.log_odds[..checked.len()], span.clone())?;
        Ok(rank_correlation(&nearly, &self.of_span(checked, span)?).ok())
    }

    /// The surrogate of a span of the answer's tokens, with α for each of them; context-cite takes 0.01.
    ///
    /// Errors: those of [`outputs`](Self::outputs) and [`fit_context_surrogate`].
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let cited = ContextCite::new(&llm, &sources, &draw_masks(3, 32, 0.5, 0)?, &said, prompt)?;
    /// let surrogate = cited.surrogate(said.span("bedroom")?, 0.01)?;
    /// assert!(surrogate.supporting(1) == [1] && surrogate.gap < 1e-6);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn surrogate(&self, span: Range<usize>, alpha: f64) -> Result<Surrogate> {
        fit_context_surrogate(&self.masks, &self.outputs(span.clone())?, alpha * span.len() as f64)
    }

    /// Where the surrogate's weights would lie if other masks had been drawn: see [`bootstrap_surrogate`]. α is for each token.
    ///
    /// Errors: those of [`outputs`](Self::outputs) and [`bootstrap_surrogate`].
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let cited = ContextCite::new(&llm, &sources, &draw_masks(3, 32, 0.5, 0)?, &said, prompt)?;
    /// let may = cited.intervals(said.span("bedroom")?, 0.01, &Bootstrap { draws: 50, ..Bootstrap::default() })?;
    /// assert!(may.low[1] > may.high[0] && may.low[1] > may.high[2]);    // no doubt about source 1
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn intervals(&self, span: Range<usize>, alpha: f64, bootstrap: &Bootstrap) -> Result<Intervals> {
        bootstrap_surrogate(&self.masks, &self.outputs(span.clone())?, alpha * span.len() as f64, bootstrap)
    }

    /// The surrogate's weights as scores of the sources, in nats: how much each of them adds to the span's log-odds.
    ///
    /// The settings tell how well surrogates of three quarters of the masks rank the last quarter (four-fold, equal masks in the
    /// same quarter): below 0.5 the figure says not to believe the scores. Fewer than 16 masks that differ tell nothing.
    ///
    /// Errors: those of [`surrogate`](Self::surrogate).
    ///
    /// **When it misleads**: what the answer says before the span is given, so that a source may matter through it alone; and
    /// no large score may mean that the model knew, or made it up.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let context = "Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano. Tom keeps three goats. \
    /// #     Nina keeps five hens.";
    /// # let sources = Sources::sentences(context)?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let cited = ContextCite::new(&llm, &sources, &draw_masks(5, 64, 0.5, 0)?, &said, prompt)?;
    /// let why = cited.attribute_span(said.span("bedroom")?, 0.01)?;
    /// assert_eq!((why.top(1)[0].0.as_str(), why.target.as_str()), ("The lamp is in the bedroom.", "«bedroom»"));
    /// assert!(why.settings["held-out rank correlation"].parse::<f64>().unwrap() > 0.5);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attribute_span(&self, span: Range<usize>, alpha: f64) -> Result<Attribution> {
        let (outputs, penalty) = (self.outputs(span.clone())?, alpha * span.len() as f64);
        let surrogate = fit_context_surrogate(&self.masks, &outputs, penalty)?;
        let scores = self.scores("ContextCite", surrogate.weights, span.clone())?;
        let scores = scores.setting("α", alpha).setting("duality gap", surrogate.gap);
        let scores = match held_out(&self.masks, &outputs, penalty)? {
            Some(correlation) => scores.setting("held-out rank correlation", format!("{correlation:.3}")),
            None => scores,
        };
        self.told(scores, span)
    }

    /// Every source × every token of the answer, each token with a surrogate of its own; the scores of all are their sums.
    /// [`Matrix`](crate::show::Matrix) shows it.
    ///
    /// Errors: those of [`surrogate`](Self::surrogate).
    ///
    /// **When it misleads**: a token is given those before it, so that a word's later pieces rest on its first and not on the
    /// source that both came from.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let cited = ContextCite::new(&llm, &sources, &draw_masks(3, 32, 0.5, 0)?, &said, prompt)?;
    /// assert_eq!(cited.attribute_tokens(0.01)?.matrix()?.dims(), [said.len(), 3]);    // (o,s)
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attribute_tokens(&self, alpha: f64) -> Result<Attribution> {
        let weights = |token: usize| Ok(self.surrogate(token..token + 1, alpha)?.weights);
        let rows = (0..self.said.len()).map(weights).collect::<Result<Vec<_>>>()?;
        let scores = Attribution::of_outputs("ContextCite", &[self.sources.len()], column_sums(&rows), rows)?;
        let scores = Attribution { features: self.sources.features(), ..scores }.toward(&self.said)?;
        self.told(scores.setting("α", alpha), 0..self.said.len())
    }

    /// The answer's own tokens, each with what all sources together add to its log-odds, Σw of its surrogate: which of its words
    /// rest on the context at all, and which the model would have said without.
    ///
    /// Errors: those of [`surrogate`](Self::surrogate).
    ///
    /// **When it misleads**: sources for a token and sources against it cancel in the sum; and see
    /// [`attribute_tokens`](Self::attribute_tokens).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let cited = ContextCite::new(&llm, &sources, &draw_masks(3, 32, 0.5, 0)?, &said, prompt)?;
    /// assert_eq!(cited.attribute_answer(0.01)?.top(1)[0].0.trim(), "bedroom");    // it rests on the context
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attribute_answer(&self, alpha: f64) -> Result<Attribution> {
        let tokens = self.attribute_tokens(alpha)?;
        let sums: Vec<f64> = tokens.outputs.iter().map(|output| output.scores.iter().sum()).collect();
        let features = Features::Tokens { text: self.said.text().into(), tokens: self.said.tokens().to_vec() };
        let scores = Attribution::of_elements("ContextCite, all sources together", &[sums.len()], sums)?;
        Ok(Attribution { features, seed: tokens.seed, settings: tokens.settings, ..scores }.named("each token"))
    }

    /// Leave-one-out: how much a span's log-odds drop when one source alone is dropped, from
    /// [`Masks::leave_one_out`].
    ///
    /// Errors: other masks, which lack one of those; those of [`outputs`](Self::outputs).
    ///
    /// **When it misleads**: of two sources that say the same, neither is missed.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    /// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    /// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    /// let cited = ContextCite::new(&llm, &sources, &Masks::leave_one_out(3)?, &said, prompt)?;
    /// let (why, odds) = (cited.leave_one_out(said.span("bedroom")?)?, cited.outputs(said.span("bedroom")?)?);
    /// assert_eq!(why.scores[1], odds[0] - odds[2]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn leave_one_out(&self, span: Range<usize>) -> Result<Attribution> {
        let outputs = self.outputs(span.clone())?;
        let without = |source: Option<usize>| {
            let mask = |row: &Vec<bool>| row.iter().enumerate().all(|(i, kept)| *kept == (Some(i) != source));
            let found = self.masks.rows().iter().position(mask).map(|row| outputs[row]);
            found.ok_or_else(|| Error::argument("these masks are not those of `Masks::leave_one_out`"))
        };
        let all = without(None)?;
        let drop = |source| Ok(all - without(Some(source))?);
        let drops = (0..self.sources.len()).map(drop).collect::<Result<Vec<f64>>>()?;
        self.told(self.scores("leave-one-out", drops, span.clone())?, span)
    }

    /// One score per source for a span.
    fn scores(&self, method: &str, scores: Vec<f64>, span: Range<usize>) -> Result<Attribution> {
        let text: String = self.said.tokens()[span].iter().map(|token| token.text.as_str()).collect();
        let scores = Attribution::of_elements(method, &[self.sources.len()], scores)?;
        Ok(Attribution { features: self.sources.features(), ..scores }.named(format!("«{}»", text.trim())))
    }

    /// Scores with the masks they were made from and, where passes were fast, how far these agree with exact ones on a span.
    fn told(&self, scores: Attribution, span: Range<usize>) -> Result<Attribution> {
        let scores = self.masks.note(scores);
        let agreement = match &self.checked {
            None => return Ok(scores),
            Some(checked) if checked.is_empty() => "not checked".into(),
            Some(_) => self.agreement(span)?.map_or("none".into(), |agreement| format!("{agreement:.3}")),
        };
        Ok(scores.setting("agreement with exact passes", agreement))
    }
}
