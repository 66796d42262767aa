//! Whether scores of sources foretell what a model says with fewer of them.

use std::ops::Range;

use crate::Result;
use crate::agreement::rank_correlation;
use crate::attribution::Attribution;
use crate::context_cite::ContextCite;

/// Scores over s sources, fresh masks → the linear datamodeling score of a span: Spearman's rank correlation between the sums of
/// the scores of what each mask keeps and the log-odds that the model gives the span then (Park et al. 2023, arXiv 2303.14186;
/// for contexts, arXiv 2409.00729). 0 if all sums are the same; 1 is perfect.
///
/// Any method's scores can be tried, by [`over_sources`](Attribution::over_sources). The masks must be others than those a
/// surrogate was fitted to: give them a seed at least as far away as there are masks, such as 1 000 000 (seed 1 shares all masks
/// of seed 0 but one), and take sources enough that few masks coincide, 2ˢ ≫ m. 128 are enough.
///
/// Errors: not one score per source; the log-odds are the same for all masks; those of [`ContextCite::outputs`].
///
/// **When it misleads**: it asks for order alone, so scores of any scale pass; and scores of a model that is not additive in its
/// sources may be right for the whole context and low here, where half of it is gone.
///
/// ```
/// # use pellucid::prelude::*;
/// # use pellucid::faithfulness::linear_datamodeling_score;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let context = "Sarah drives a brown bus. Tom keeps three goats. The lamp is in the bedroom. Nina keeps five hens. \
///     Sarah plays the piano. Tom drinks cocoa. The bag is in the kitchen. Nina has a red boat. \
///     Anna lives in Lisbon. Tom plays chess. Sarah drinks tea. The book is in the attic.";
/// let sources = Sources::sentences(context)?;
/// let prompt = |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
/// let said = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
/// let cited = |seed| ContextCite::new(&llm, &sources, &draw_masks(12, 64, 0.5, seed)?, &said, prompt);
/// let (why, fresh) = (cited(0)?.attribute_span(0..said.len(), 0.01)?, cited(1_000_000)?);
/// assert!(linear_datamodeling_score(&why, &fresh, 0..said.len())? > 0.7);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn linear_datamodeling_score(scores: &Attribution, fresh: &ContextCite, span: Range<usize>) -> Result<f64> {
    let sums = fresh.masks().sums(&scores.scores)?;
    if sums.iter().all(|sum| *sum == sums[0]) {
        return Ok(0.0);
    }
    rank_correlation(&sums, &fresh.outputs(span)?)
}
