//! What a model reads when Captum takes features of a text away.

use candle_core::DType;
use pellucid::model::text::Text;
use pellucid::prelude::*;

use super::methods::nothing_more;
use super::record::Record;
use super::template::Template;
use crate::reference_runner::Fallible;
use crate::reference_runner::check::Check;
use crate::reference_runner::value::Value;

/// A template without some of its fields. The crate does not show that text, so a model reads it: what the model then makes
/// of a continuation is what it makes of it after the expected text, and not what it makes of it after another.
pub fn template(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    let input = record.list("input")?;
    let parts = Template::new(&input[0], input.get(1).ok_or("a template without values")?)?.parts()?;
    let present = Tensor::new(flags(record)?, &Device::Cpu)?.unsqueeze(0)?;
    let llm = CausalLm::load_with("pellucid/tiny-llama-facts", &Load { dtype, ..Load::default() })?;
    let (expected, whole) = (llm.read(record.word("expected")?)?, llm.read(parts.source())?);
    let said = llm.continuation(&whole, " painting")?;
    let after = |text: &Text| Value::of(&llm.log_probs_after(&[text.ids()], &said)?);
    if after(&expected)? == after(&whole)? {
        return Err("the model cannot tell the expected text from the whole one".into());
    }
    let got = Value::of(&llm.log_probs_with(&parts, &present, &said)?)?;
    Ok(vec![Check::new("expected", dtype, &got, &after(&expected)?, 0.0)])
}

/// For every feature whether it is there; features of one group, by `mask`, are there together.
fn flags(record: &Record) -> Fallible<Vec<f64>> {
    let perturbed = Value::nested(record.need("perturbed")?)?.numbers()?.to_vec();
    match record.get("mask") {
        None => Ok(perturbed),
        Some(mask) => Ok(Value::nested(mask)?.ids()?.into_iter().map(|group| perturbed[group as usize]).collect()),
    }
}

/// Scores of groups, given to each of their features.
pub fn spread(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    let mask = record.word("model")?.strip_prefix("TextTemplateInput mask ").ok_or("another input")?;
    let ids: Vec<usize> = serde_json::from_str(mask)?;
    let groups = Groups::from_ids(&Tensor::zeros(ids.len(), dtype, &Device::Cpu)?, &ids)?;
    let scores = Value::nested(&record.need("input")?[0])?;
    let spread = groups.spread(scores.numbers()?)?;
    record.against("expected", &[spread.as_slice().into()], dtype)
}

/// Tokens without some of them: f is the ids themselves, so that what ablation takes from it is what is no longer read.
pub fn tokens(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    let x = Value::nested(&record.need("input")?[0])?.tensor(dtype)?;
    let baseline = (x.ones_like()? * record.count("baseline")? as f64)?;
    let skip = record.get("skip_tokens").map(Value::nested).transpose()?.map_or(Ok(vec![]), |ids| ids.ids())?;
    let mut flags = flags(record)?.into_iter();
    let there = |id: u32| if skip.contains(&id) { Some(1) } else { flags.next().map(|flag| flag as usize) };
    let there =
        Value::of(&x)?.ids()?.into_iter().map(there).collect::<Option<Vec<_>>>().ok_or("fewer flags than tokens")?;
    let taken = ablate(|x| Ok(x.clone()), &x, &baseline, &Groups::from_ids(&x, &there)?)?.get(0)?;
    record.against("expected", &[Value::of(&(x.to_dtype(DType::F64)? - taken)?)?], dtype)
}
