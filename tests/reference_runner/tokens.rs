//! Cases about tokens alone: those of texts, and conversations as a template writes them.

use pellucid::prelude::*;
use serde::Deserialize;

use super::Fallible;
use super::case::Run;
use super::kinds::Got;
use super::value::Value;

/// Token ids of texts, framed by special tokens and as they stand.
pub fn tokenize(run: &Run) -> Fallible<Got> {
    let tokenizer = run.tokenizer()?;
    let mut got = Got::new();
    for (i, text) in run.input("texts")?.words()?.iter().enumerate() {
        got.insert(format!("ids{i}"), tokenizer.read(text)?.ids().as_slice().into());
        got.insert(format!("ids{i}_no_special"), tokenizer.read_plain(text)?.ids().as_slice().into());
    }
    Ok(got)
}

/// A conversation as text. Its tokens are those of the text as it stands.
pub fn chat(run: &Run) -> Fallible<Got> {
    let llm = run.llm()?;
    let messages = run.case.inputs.get("messages").ok_or("no messages")?;
    let prompt = llm.chat(&Vec::<Message>::deserialize(messages)?)?;
    if prompt.ids() != llm.tokenizer().read_plain(prompt.source())?.ids() {
        return Err("the conversation's tokens are not those of its text".into());
    }
    Ok(Got::from([("prompt".into(), Value::Words(vec![prompt.source().into()]))]))
}
