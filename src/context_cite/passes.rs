//! The model asked once for each mask: exactly, or from what follows the context alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use candle_core::Tensor;

use super::{Masks, Sources, token_log_odds};
use crate::batches::in_batches;
use crate::model::CausalLm;
use crate::model::text::{Continuation, Text};
use crate::tensor::numbers;
use crate::{Error, Result};

/// How a model is asked what it thinks of an answer with fewer sources.
///
/// ```
/// # use pellucid::prelude::*;
/// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
/// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
/// # let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
/// let masks = draw_masks(sources.len(), 32, 0.5, 0)?;
/// let cited = ContextCite::with_passes(&llm, &sources, &masks, &said, prompt, &Passes::fast(8))?;
/// assert!(cited.agreement(said.span("bedroom")?)?.is_some_and(|rank| rank > 0.5));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passes {
    /// How many prompts at a time, at most. Where memory does not suffice for so many, half of them, and so on, with a line that
    /// says so.
    pub batch: usize,
    /// `None`: every shortened context is read anew. Otherwise the whole context is read once, and what follows it once for each
    /// mask; so many masks are asked exactly as well, to tell how far the two agree: 0, or at least 3.
    pub checked: Option<usize>,
}

impl Passes {
    /// Every context read anew, as the method has it, up to 32 at a time.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Passes::exact(), Passes::default());
    /// assert_eq!(Passes::exact().checked, None);    // nothing to check
    /// ```
    pub fn exact() -> Self {
        Self { batch: 32, checked: None }
    }

    /// The whole context is read once; for each mask the question and the answer are read after it, seeing of it only the tokens
    /// of sources that are kept. `checked` masks are asked exactly as well: 8 are enough to tell whether to believe the rest; with 0
    /// nobody knows, and every figure says so.
    ///
    /// **When it misleads**: what is kept was read while the rest was still there, and has traces of it; the more layers, the
    /// more. [`agreement`](super::ContextCite::agreement) says how much it matters.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Passes::fast(8), Passes { batch: 32, checked: Some(8) });
    /// ```
    pub fn fast(checked: usize) -> Self {
        Self { checked: Some(checked), ..Self::exact() }
    }

    /// With so many prompts at a time, at most.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Passes::fast(8).batch(4).batch, 4);
    /// ```
    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    pub(super) fn check(&self, masks: &Masks) -> Result<()> {
        match self.checked {
            _ if self.batch == 0 => Err(Error::argument("a batch holds at least one prompt: 32 are usual")),
            Some(few @ 1..3) => Err(Error::argument(format!(
                "{few} masks asked exactly as well tell nothing of how far `fast` may be believed: try 8, or 0 to go unchecked"
            ))),
            Some(few) if few > masks.len() => {
                Err(Error::argument(format!("{few} masks cannot be asked exactly as well, there are {}", masks.len())))
            }
            _ => Ok(()),
        }
    }
}

impl Default for Passes {
    fn default() -> Self {
        Self::exact()
    }
}

/// What all passes have in common.
pub(super) struct Asked<'a> {
    pub llm: &'a CausalLm,
    pub sources: &'a Sources,
    pub said: &'a Continuation,
    pub prompt: &'a dyn Fn(&str) -> Result<Text>,
    pub batch: usize,
}

impl Asked<'_> {
    /// Log-odds of the answer's tokens for every mask, `(m,o)`; every context read anew. Equal masks are asked once.
    pub fn exactly(&self, masks: &[Vec<bool>]) -> Result<Vec<Vec<f64>>> {
        let distinct: BTreeSet<&Vec<bool>> = masks.iter().collect(); // neighbours begin alike, and what is alike is computed once
        let asked = distinct.into_iter().map(|keep| Ok((keep, self.read(keep)?.ids())));
        let mut asked = asked.collect::<Result<Vec<_>>>()?;
        if !self.llm.is_on_cpu() {
            asked.sort_by_key(|(_, ids)| ids.len()); // a batch is as long as its longest
        }
        let (asked, prompts): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let logits = |some: Range<usize>| self.llm.continuation_logits_after(&prompts[some], self.said);
        let answers: BTreeMap<_, _> = asked.into_iter().zip(self.log_odds(prompts.len(), logits)?).collect();
        Ok(masks.iter().filter_map(|mask| answers.get(mask).cloned()).collect())
    }

    /// The same from one pass over the whole prompt: what follows the context is read anew for each mask.
    pub fn fast(&self, masks: &[Vec<bool>]) -> Result<Vec<Vec<f64>>> {
        let prompt = self.read(&vec![true; self.sources.len()])?;
        let (tokens, ids) = (self.sources.tokens(&prompt)?, prompt.ids());
        let end = tokens.iter().map(|tokens| tokens.end).max().unwrap_or(0);
        let (past, rest) = (self.llm.past_of(&ids[..end])?, &ids[end..]);
        let sees = |mask: &Vec<bool>| {
            let mut sees = vec![true; end];
            let hidden = tokens.iter().zip(mask).filter(|(_, kept)| !**kept);
            hidden.for_each(|(tokens, _)| sees[tokens.clone()].fill(false));
            sees
        };
        self.log_odds(masks.len(), |some| {
            let seen: Vec<Vec<bool>> = masks[some].iter().map(sees).collect();
            self.llm.continuation_logits_past(&past, &seen, rest, self.said)
        })
    }

    /// What the model reads if a mask is kept.
    fn read(&self, keep: &[bool]) -> Result<Text> {
        (self.prompt)(&self.sources.ablated_context(keep)?)
    }

    /// Log-odds of the answer's tokens from their logits `(n,o,v)`, a batch at a time: a list of o for each of `count`.
    fn log_odds(&self, count: usize, logits: impl Fn(Range<usize>) -> Result<Tensor>) -> Result<Vec<Vec<f64>>> {
        let ids = self.said.ids();
        let mut answers = Vec::with_capacity(count);
        in_batches("ContextCite, masks", count, self.batch, &mut |some| {
            let odds = numbers(&token_log_odds(&logits(some)?, &ids)?)?;
            answers.extend(odds.chunks(ids.len()).map(<[f64]>::to_vec));
            Ok(())
        })?;
        Ok(answers)
    }
}
