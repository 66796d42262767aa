//! What a citation is good for: to doubt a statement, to shorten a context, to find what was planted in it.

use std::ops::Range;

use super::{ContextCite, Masks, Sources};
use crate::attribution::Attribution;
use crate::model::text::{Continuation, Text};
use crate::model::{CausalLm, Sampling};
use crate::{Error, Result};

/// What a statement rests on.
///
/// ```
/// # use pellucid::prelude::*;
/// let (rests, recalled) = (Support { sources: vec![1], drop: 9.4 }, Support { sources: vec![0], drop: 0.2 });
/// assert!(rests.is_supported() && !recalled.is_supported());    // e^0.2 is no factor of ten
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Support {
    /// The sources that add most, the first of them the most; fewer than were asked for if no others add anything.
    pub sources: Vec<usize>,
    /// How much less likely the statement is without them, in nats: ln p with all sources − ln p without these.
    pub drop: f64,
}

impl Support {
    /// Whether the statement is at least ten times less likely without its sources. If not, the model may have known it, or made
    /// it up: look before you believe it.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert!(Support { sources: vec![1], drop: 10f64.ln() }.is_supported());
    /// assert!(!Support { sources: vec![], drop: 0.0 }.is_supported());
    /// ```
    pub fn is_supported(&self) -> bool {
        self.drop >= std::f64::consts::LN_10
    }
}

/// A span of the answer → whether the k sources that add most to it support it, by asking once more without them.
///
/// Errors: those of [`ContextCite::surrogate`] and [`log_prob_drop`].
///
/// **When it misleads**: it asks whether the model *used* the sources, not whether they say what it said; and if others say
/// the same, the drop is small although the statement is well founded. Take a larger k then.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
/// let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
/// let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
/// let cited = ContextCite::new(&llm, &sources, &draw_masks(3, 32, 0.5, 0)?, &said, prompt)?;
/// let support = verify(&llm, &cited, said.span("bedroom")?, 0.01, 1, prompt)?;
/// assert!(support.is_supported() && support.sources == [1]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn verify(
    llm: &CausalLm,
    cited: &ContextCite,
    span: Range<usize>,
    alpha: f64,
    k: usize,
    prompt: impl Fn(&str) -> Result<Text>,
) -> Result<Support> {
    let scores = cited.attribute_span(span.clone(), alpha)?;
    let drop = log_prob_drop(llm, cited.sources(), cited.said(), span, &scores, &[k], prompt)?[0];
    Ok(Support { sources: scores.supporting(k), drop })
}

/// Scores of sources → for each k, how much less likely a span of the answer is without the k sources that add most, in nats
/// (arXiv 2409.00729: the top-k log-probability drop).
///
/// Errors: not one score per source; those of [`ContextCite::new`] and [`ContextCite::outputs`].
///
/// **When it misleads**: where two sources say the same and one is left, nothing falls, though the scores were right.
///
/// ```
/// # use pellucid::prelude::*;
/// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
/// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
/// let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
/// let cited = ContextCite::new(&llm, &sources, &draw_masks(3, 32, 0.5, 0)?, &said, prompt)?;
/// let span = said.span("bedroom")?;
/// let scores = cited.attribute_span(span.clone(), 0.01)?;
/// let drops = log_prob_drop(&llm, &sources, &said, span, &scores, &[0, 1], prompt)?;
/// assert!(drops[0] == 0.0 && drops[1] > 1.0);    // without none, and without the best
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn log_prob_drop(
    llm: &CausalLm,
    sources: &Sources,
    said: &Continuation,
    span: Range<usize>,
    scores: &Attribution,
    ks: &[usize],
    prompt: impl Fn(&str) -> Result<Text>,
) -> Result<Vec<f64>> {
    if scores.scores.len() != sources.len() {
        return Err(Error::shape(
            "the scores",
            format!("({},), one per source", sources.len()),
            &[scores.scores.len()],
        ));
    }
    let without = |k: &usize| sources.flags(&scores.supporting(*k), false);
    let rows = std::iter::once(Ok(vec![true; sources.len()])).chain(ks.iter().map(without)).collect::<Result<_>>()?;
    let asked = ContextCite::new(llm, sources, &Masks::new(rows)?, said, prompt)?;
    let log_probs = asked.log_probs(span)?;
    Ok(log_probs[1..].iter().map(|without| log_probs[0] - without).collect())
}

/// A source without which the answer is another.
///
/// ```
/// # use pellucid::prelude::*;
/// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// # let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
/// # let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
/// # let sampling = Sampling::greedy(16);
/// let said = llm.generate(&prompt(sources.context())?, &sampling)?;
/// let cited = ContextCite::new(&llm, &sources, &draw_masks(3, 32, 0.5, 0)?, &said, prompt)?;
/// let Planted { source, otherwise } = find_planted(&llm, &cited, &[0, 1], prompt, &sampling)?.unwrap();
/// assert!(source == 1 && otherwise.text() != said.text());
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    /// The source.
    pub source: usize,
    /// What the model says without it.
    pub otherwise: Continuation,
}

/// Of some suspects, such as the sources that add most to an answer, the first without which the model says something else than
/// with the whole context: an instruction or a statement that somebody planted in it, or the one source that knows.
///
/// The model is asked anew with the whole context, too: the answer that was cited may be somebody else's, or longer.
///
/// Errors: those of [`CausalLm::generate`].
///
/// **When it misleads**: it tells what the answer hangs on, not who put it there; and what was planted twice is not found by taking
/// one away.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
/// let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
/// let sampling = Sampling::greedy(16);
/// let said = llm.generate(&prompt(sources.context())?, &sampling)?;
/// let cited = ContextCite::new(&llm, &sources, &draw_masks(3, 32, 0.5, 0)?, &said, prompt)?;
/// let why = cited.attribute_span(0..said.len(), 0.01)?;
/// assert_eq!(find_planted(&llm, &cited, &why.supporting(2), prompt, &sampling)?.map(|planted| planted.source), Some(1));
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn find_planted(
    llm: &CausalLm,
    cited: &ContextCite,
    suspects: &[usize],
    prompt: impl Fn(&str) -> Result<Text>,
    sampling: &Sampling,
) -> Result<Option<Planted>> {
    let without = |sources: &[usize]| llm.generate(&prompt(&cited.sources().without(sources)?)?, sampling);
    let whole = without(&[])?;
    for &source in suspects {
        let otherwise = without(&[source])?;
        if otherwise.text() != whole.text() {
            return Ok(Some(Planted { source, otherwise }));
        }
    }
    Ok(None)
}
