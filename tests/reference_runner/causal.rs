//! Forwards of causal language models.

use pellucid::prelude::*;

use super::Fallible;
use super::attention;
use super::case::Run;
use super::kinds::Got;
use super::value::Value;

/// The next token's logits, those at every place, and every attention pattern.
pub fn forward(run: &Run) -> Fallible<Got> {
    let llm = run.llm()?;
    let prompt = run.prompt(&llm)?;
    let x = llm.embed(&prompt)?.unsqueeze(0)?;
    let (last, all) = (llm.logits(&x)?.squeeze(0)?, llm.logits_hooked(&x, &mut Clear)?.squeeze(0)?);
    let mut got = attention::fields(&llm.attention(&prompt)?)?;
    got.insert("last_logits, alone".into(), Value::of(&last)?);
    got.insert("last_logits, of all".into(), Value::of(&all.get(prompt.len() - 1)?)?);
    got.insert("argmax".into(), f64::from(last.argmax(0)?.to_scalar::<u32>()?).into());
    got.insert("logits".into(), Value::of(&all)?);
    Ok(got)
}
