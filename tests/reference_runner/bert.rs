//! Cases on BERT with a classifier.

use pellucid::model::{Bert, text::Text};
use pellucid::prelude::*;

use super::Fallible;
use super::attention;
use super::case::Run;
use super::kinds::Got;
use super::peer::{Explained, Peer};
use super::units;
use super::value::Value;

/// Logits, the last hidden state, and every attention pattern.
pub fn forward(run: &Run) -> Fallible<Got> {
    let bert = run.bert()?;
    let text = run.text(&bert)?;
    let logits = bert.logits(&text, &bert.embed(&text)?.unsqueeze(0)?)?.squeeze(0)?;
    let mut got = hidden(&bert, &text)?;
    got.insert("logits".into(), Value::of(&logits)?);
    Ok(got)
}

/// The last hidden state and attention patterns.
pub fn hidden(bert: &Bert, text: &Text) -> Fallible<Got> {
    let hidden = bert.hidden(text, &bert.embed(text)?.unsqueeze(0)?)?.squeeze(0)?;
    let mut got = attention::fields(&bert.attention(text)?)?;
    got.insert("last_hidden_state".into(), Value::of(&hidden)?);
    Ok(got)
}

/// Integrated Gradients of a logit over the word embeddings.
pub fn integrated_gradients(run: &Run) -> Fallible<Got> {
    let bert = run.bert()?;
    let text = run.text(&bert)?;
    let target = Target::Logit(run.count("target")?);
    explain(run, &bert, &text, |x| target.of(&bert.logits(&text, x)?))
}

/// Integrated Gradients from the case's baseline tokens: by element, and by token.
pub fn explain(run: &Run, bert: &Bert, text: &Text, f: impl Fn(&Tensor) -> Result<Tensor>) -> Fallible<Got> {
    let baseline = bert.embed_ids(&run.input("baseline_ids")?.ids()?)?;
    let peer = Peer::new(run.word("method")?, run.count("n_steps")?)?;
    let explained = peer.explain(f, &bert.embed(text)?, &baseline)?;
    let mut got = units::fields(&explained)?;
    let Explained { attribution, .. } = explained;
    got.insert("token_attr".into(), attribution.over(text)?.scores.as_slice().into());
    Ok(got)
}
