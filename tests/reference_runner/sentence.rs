//! Cases on MiniLM: sentence embeddings and their cosine.

use pellucid::model::{Bert, text::Text};
use pellucid::prelude::*;

use super::Fallible;
use super::bert;
use super::case::Run;
use super::kinds::Got;
use super::value::Value;

/// The function of `ig_cosine`, as the files write it.
pub const COSINE: &str = "cosine with the fixed embedding of other_text";

/// The sentence's embedding, and what it is made of.
pub fn forward(run: &Run) -> Fallible<Got> {
    let bert = run.bert()?;
    let text = run.text(&bert)?;
    let mut got = bert::hidden(&bert, &text)?;
    let rolled = rollout(&bert.attention(&text)?, &Rollout::default())?;
    got.insert("sentence_embedding".into(), Value::of(&embedding(&bert, &text)?)?);
    got.insert("rollout_cls_row".into(), Value::of(&rolled.get(0)?.get(0)?)?);
    Ok(got)
}

/// Integrated Gradients of [`COSINE`] over the word embeddings.
pub fn cosine(run: &Run) -> Fallible<Got> {
    run.says("F", COSINE)?;
    let bert = run.bert()?;
    let (text, other) = (run.text(&bert)?, bert.read(&run.input("other_text")?.words()?[0])?);
    run.same("other_ids", &other.ids().as_slice().into())?;
    let fixed = embedding(&bert, &other)?;
    bert::explain(run, &bert, &text, |x| Ok(bert.sentence_embedding(&text, x)?.broadcast_mul(&fixed)?.sum(1)?))
}

/// `(c,)`.
fn embedding(bert: &Bert, text: &Text) -> Result<Tensor> {
    Ok(bert.sentence_embedding(text, &bert.embed(text)?.unsqueeze(0)?)?.squeeze(0)?)
}
