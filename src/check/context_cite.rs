//! The exercises of chapter 08.

use std::ops::Range;

use super::{Gap, Outcome, Verdict, near, require};
use crate::Result;
use crate::context_cite::{ContextCite, Masks, Sources, draw_masks, verify};
use crate::model::text::Text;
use crate::model::{CausalLm, Message, Sampling};

const MODEL: &str = "pellucid/tiny-qwen-facts";
const CONTEXT: &str = "Anna lives in Lisbon. Tom keeps three goats. The lamp is in the attic. Two windows were open. \
                       Anna plays the cello. The book costs nine euros. Nina keeps five hens. Tom drinks cocoa.";

/// What the sentences of the chapter's context are about.
const SUBJECTS: [&str; 5] = ["Anna", "Tom", "Nina", "lamp", "book"];

/// ln p of the tokens of a span → the log-odds of the whole span, also where p is so near 1 that it rounds to 1.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::span_log_odds(|ln_p| ln_p.iter().sum()).passed);
/// ```
pub fn span_log_odds(mine: impl Fn(&[f64]) -> f64) -> Verdict {
    let cases: [(&[f64], f64); 4] = [
        (&[0.5f64.ln(), 0.5f64.ln()], (1.0f64 / 3.0).ln()),
        (&[-30.0, -40.0], -70.0),
        (&[-1e-20, -2e-20], -3e-20f64.ln()),
        (&[-3e-12], -3e-12f64.ln()),
    ];
    let all = cases.into_iter().try_for_each(|(ln_p, wanted)| {
        let got = mine(ln_p);
        require(near(got, wanted, 1e-9), || format!("Of ln p = {ln_p:?} I expected {wanted:.6}, got {got:.6}."))
    });
    Verdict::new(all.map(|()| "Finite log-odds, with all their digits, however sure the model is.".into()))
}

/// A question about a context, as the models were taught to read it.
fn asking<'a>(llm: &'a CausalLm, question: &'a str) -> impl Fn(&str) -> Result<Text> + Copy + 'a {
    move |context| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: {question}"))])
}

/// (masks and passes, a span of the answer, sources) → by how much the span's log-odds fall when these sources are gone together.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::gone_together(|_, _, _| Ok(0.0)).passed);
/// ```
pub fn gone_together(mine: impl Fn(&ContextCite, Range<usize>, &[usize]) -> Result<f64>) -> Verdict {
    Verdict::new(are_gone_together(&mine))
}

type GoneTogether<'a> = dyn Fn(&ContextCite, Range<usize>, &[usize]) -> Result<f64> + 'a;

fn are_gone_together(mine: &GoneTogether) -> Outcome {
    let llm = CausalLm::load(MODEL)?;
    let context = "Anna lives in Lisbon. The lamp is in the attic. Nina keeps five hens. The lamp is in the attic.";
    let (sources, prompt) = (Sources::sentences(context)?, asking(&llm, "Where is the lamp?"));
    let said = llm.continuation(&prompt(context)?, "The lamp is in the attic.")?;
    let row = |gone: usize| (5 * gone + 3) % 16; // where the mask stands that lacks the sources of these bits
    let mut rows = vec![Vec::new(); 16];
    (0..16).for_each(|gone| rows[row(gone)] = (0..4).map(|source| gone >> source & 1 == 0).collect());
    let cited = ContextCite::new(&llm, &sources, &Masks::new(rows)?, &said, prompt)?;
    let span = said.span("attic")?;
    let (outputs, alone) = (cited.outputs(span.clone())?, cited.leave_one_out(span.clone())?);
    for gone in [&[0][..], &[1, 3], &[3, 2, 0], &[]] {
        let wanted = outputs[row(0)] - outputs[row(gone.iter().map(|source| 1 << source).sum())];
        let summed: f64 = gone.iter().map(|source| alone.scores[*source]).sum();
        let got = mine(&cited, span.clone(), gone)?;
        require(near(got, wanted, 1e-6) || !near(got, summed, 1e-6), || {
            format!("Dropped one at a time, sources {gone:?} cost {summed:.3} in sum; dropped together, {wanted:.3}.")
        })?;
        require(!near(got, -wanted, 1e-6) || near(got, wanted, 1e-6), || {
            "The sign is the other way round: the log-odds with all sources come first.".into()
        })?;
        require(near(got, wanted, 1e-6), || {
            format!("Without sources {gone:?} together the log-odds fall by {wanted:.3}, you say {got:.3}.")
        })?;
    }
    Ok("What is said twice is missed, once both are gone.".into())
}

/// A question about the chapter's context that the model answers from a sentence about somebody, or something, else.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::borrowed("Where is the lamp?").passed);
/// ```
pub fn borrowed(question: &str) -> Verdict {
    Verdict::new(is_borrowed(question))
}

fn is_borrowed(question: &str) -> Outcome {
    let own = ["keep", "cost"].iter().any(|verb| question.contains(verb));
    require(!own, || "Who keeps what, and what it costs, are the chapter's own examples; find another.".into())?;
    let llm = CausalLm::load(MODEL)?;
    let (sources, prompt) = (Sources::sentences(CONTEXT)?, asking(&llm, question));
    let said = llm.generate(&prompt(CONTEXT)?, &Sampling::greedy(20))?;
    let cited = ContextCite::new(&llm, &sources, &draw_masks(sources.len(), 64, 0.5, 0)?, &said, prompt)?;
    let support = verify(&llm, &cited, 0..said.len(), 0.01, 1, prompt)?;
    let parts = sources.parts();
    let Some(source) = support.sources.first().map(|source| &parts[*source]) else {
        return Err(Gap(format!("«{}» rests on no sentence at all.", said.text())));
    };
    require(support.is_supported(), || {
        let drop = support.drop;
        format!("«{}» is {drop:.2} nats less likely without «{source}»; support begins at ln 10 = 2.30.", said.text())
    })?;
    let shared = SUBJECTS.iter().find(|subject| question.contains(**subject) && source.contains(**subject));
    require(shared.is_none(), || {
        let shared = shared.copied().unwrap_or_default();
        format!("«{}» comes from «{source}», and {shared} is who or what you asked about.", said.text())
    })?;
    Ok(format!("«{}» comes from «{source}», which is about somebody or something else.", said.text()))
}
