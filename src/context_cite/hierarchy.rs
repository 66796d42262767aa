//! A long context, searched from its paragraphs down to the words.

use std::ops::Range;

use super::{ContextCite, Sources, draw_masks};
use crate::attribution::Attribution;
use crate::model::CausalLm;
use crate::model::text::{Continuation, Text};
use crate::{Error, Result};

/// How a long context is searched.
///
/// ```
/// # use pellucid::prelude::*;
/// let options = Hierarchy { first: Sources::sentences, then: vec![Sources::words], ..Hierarchy::default() };
/// assert_eq!((options.first)("It rains. Anna sleeps.")?.len(), 2);
/// assert_eq!((options.top, options.masks), (2, 64));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// How the context is cut first.
    pub first: fn(&str) -> Result<Sources>,
    /// How what matters is cut then, level by level.
    pub then: Vec<fn(&str) -> Result<Sources>>,
    /// How many sources are cut finer at each level.
    pub top: usize,
    /// Masks for each level, in which a source is kept with probability ½.
    pub masks: usize,
    /// Same seed, same masks.
    pub seed: u32,
    /// α of the surrogate, for each token of the span.
    pub alpha: f64,
}

impl Default for Hierarchy {
    /// Paragraphs, the sentences of the best two, the words of the best two of these; 64 masks each, α = 0.01.
    fn default() -> Self {
        let then: Vec<fn(&str) -> Result<Sources>> = vec![Sources::sentences, Sources::words];
        Self { first: Sources::paragraphs, then, top: 2, masks: 64, seed: 0, alpha: 0.01 }
    }
}

/// A context, and a span of an answer about it → ContextCite at every level of a hierarchy: first over paragraphs, say, then over
/// the sentences of those that add most and the other paragraphs whole, and so on.
///
/// k levels cost k·m passes, whatever the length of the context, where its words at once would need more masks than words.
/// (AttriBoT, Liu et al. 2024, arXiv 2411.15102, searches by leave-one-out so.) Where no source adds anything there is nothing to
/// cut finer, and the levels end there: the first is always there.
///
/// Errors: `top` is 0; those of [`ContextCite::new`] and [`ContextCite::attribute_span`].
///
/// **When it misleads**: a source that matters only together with another of the same paragraph may never be seen, and what is
/// lost at one level is not found at the next.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let context = "Sarah drives a brown bus. Sarah plays the piano.\n\nThe lamp is in the bedroom. The lamp is green.";
/// let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
/// let said = llm.continuation(&prompt(context)?, "The lamp is in the bedroom.")?;
/// let options = Hierarchy { top: 1, masks: 32, ..Hierarchy::default() };
/// let levels = hierarchical_context_cite(&llm, context, &said, said.span("bedroom")?, prompt, &options)?;
/// assert_eq!(levels[1].top(1)[0].0, "The lamp is in the bedroom.");
/// assert_eq!(levels[2].top(1)[0].0, "bedroom");
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn hierarchical_context_cite(
    llm: &CausalLm,
    context: &str,
    said: &Continuation,
    span: Range<usize>,
    prompt: impl Fn(&str) -> Result<Text>,
    options: &Hierarchy,
) -> Result<Vec<Attribution>> {
    if options.top == 0 {
        return Err(Error::argument("at least one source must be cut finer at each level: try `top: 2`"));
    }
    let attribute = |sources: &Sources| {
        let masks = draw_masks(sources.len(), options.masks, 0.5, options.seed)?;
        ContextCite::new(llm, sources, &masks, said, &prompt)?.attribute_span(span.clone(), options.alpha)
    };
    let mut sources = (options.first)(context)?;
    let mut levels = vec![attribute(&sources)?];
    for cut in &options.then {
        let most = levels[levels.len() - 1].supporting(options.top);
        if most.is_empty() {
            break;
        }
        sources = sources.refined(&most, *cut)?;
        levels.push(attribute(&sources)?);
    }
    Ok(levels)
}
