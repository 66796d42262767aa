//! ContextCite's parts: masks, log-odds of tokens and of spans, the LASSO.

use std::ops::Range;

use pellucid::prelude::*;
use serde_json::Value as Json;

use super::Fallible;
use super::case::Run;
use super::kinds::Got;
use super::value::Value;

/// How masks are drawn, as the files write it.
pub const DRAWN: &str =
    "keep iff u >= cdf[0] = (1-keep)/((1-keep)+keep), u = 53-bit uniform (a>>5, b>>6) of MT19937 init_genrand(seed)";
/// The log-odds of a span.
pub const AGGREGATE: &str = "s = sum_t log sigmoid(l_t); s - log(1 - exp(s))";
/// The log-odds of a token.
pub const TOKEN: &str = "l_y - logsumexp over the other classes";
/// What the LASSO minimises.
pub const OBJECTIVE: &str = "1/(2n) ||y - Z b - c||^2 + alpha ||b||_1; weight = b/scale, bias = c - mean.b/scale";
/// What its columns are divided by.
pub const STANDARD: &str = "population std, zero variance -> 1";
/// What a whole case fixes in words: the seeds, the prompt, how sentences end and words are found, and what is minimised.
pub const SEEDS: &str = "numpy RandomState(i), i = 0..num_ablations-1";
/// The prompt.
pub const TEMPLATE: &str = "Context: {context}\n\nQuery: {query}";
/// How sentences end, which for these contexts is where Unicode's do.
pub const SENTENCES: &str = r"regex (?<=[.!?])\s+";
/// How words are found, which is not ours.
pub const WORDS: &str = "spaCy English() rule tokenizer (the sources are given)";
/// What the weights are.
pub const WEIGHTS: &str = "exact minimiser (float64); package_weights: sklearn on float32 with tol=1e-4";

/// Masks, a seed each, and the numbers behind the first of them.
pub fn masks(run: &Run) -> Fallible<Got> {
    run.says("rule", DRAWN)?;
    let (sources, keep, seeds) = (run.count("num_sources")?, run.number("keep_prob")?, run.ids("seeds")?);
    let rows: Vec<_> =
        seeds.iter().map(|&seed| Ok(draw_masks(sources, 1, keep, seed)?.tensor()?)).collect::<Fallible<_>>()?;
    Ok(Got::from([
        ("masks".into(), Value::of(&Tensor::cat(&rows, 0)?)?),
        ("uniforms_seed0".into(), uniforms(sources, 0)?.as_slice().into()),
    ]))
}

/// The numbers u that decide who is kept, found by halving: a source is kept iff u ≥ 1 − p.
pub fn uniforms(sources: usize, seed: u32) -> Fallible<Vec<f64>> {
    let number = |source: usize| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..45 {
            let middle: f64 = 0.5 * (low + high);
            let kept = draw_masks(sources, 1, 1.0 - middle, seed)?.rows()[0][source];
            *if kept { &mut low } else { &mut high } = middle;
        }
        Ok(low)
    };
    (0..sources).map(number).collect()
}

/// The surrogate of given outputs.
pub fn lasso(run: &Run) -> Fallible<Got> {
    run.says("objective", OBJECTIVE)?;
    let rows = run.input("X")?.tensor(run.dtype)?.to_vec2::<f64>()?;
    let masks = Masks::new(rows.iter().map(|row| row.iter().map(|&kept| kept == 1.0).collect()).collect())?;
    let found = fit_context_surrogate(&masks, run.input("y")?.numbers()?, run.number("alpha")?)?;
    Ok(Got::from([("weights".into(), found.weights.as_slice().into()), ("bias".into(), found.intercept.into())]))
}

/// Log-odds of spans, a row of tokens each.
pub fn aggregate(run: &Run) -> Fallible<Got> {
    run.says("rule", AGGREGATE)?;
    let rows = run.input("logit_probs")?.tensor(run.dtype)?.to_vec2::<f64>()?;
    let outputs = rows.iter().map(|row| span_logit(row)).collect::<Result<Vec<_>>>()?;
    Ok(Got::from([("outputs".into(), outputs.as_slice().into())]))
}

/// Log-odds of tokens, a row of logits each.
pub fn token(run: &Run) -> Fallible<Got> {
    run.says("rule", TOKEN)?;
    let logits = run.input("logits")?.tensor(run.dtype)?.unsqueeze(0)?;
    let odds = token_log_odds(&logits, &run.input("labels")?.ids()?)?;
    Ok(Got::from([("logit_probs".into(), Value::of(&odds.squeeze(0)?)?)]))
}

/// The whole of it: a context, a query and an answer, and the surrogates of the answer and of some of its spans.
pub fn cited(run: &Run) -> Fallible<Got> {
    let (llm, sources) = (run.llm()?, sources(run)?);
    let query = run.input("query")?.words()?[0].clone();
    let prompt = |context: &str| llm.chat(&[Message::user(&context_prompt(context, &query)?)]);
    let said = answer(run, &llm, &prompt(sources.context())?)?;
    let masks = draw_masks(sources.len(), run.count("num_ablations")?, run.number("keep_prob")?, 0)?;
    first_prompt(run, &sources, &masks, prompt)?;
    let cited = ContextCite::new(&llm, &sources, &masks, &said, prompt)?;
    let mut got = Got::from([
        ("masks".into(), Value::of(&masks.tensor()?)?),
        ("logit_probs".into(), Value::of(&cited.log_odds()?)?),
        ("response_ids".into(), said.ids().as_slice().into()),
        ("num_sources".into(), (sources.len() as f64).into()),
    ]);
    for (name, span) in spans(run, &said)? {
        let found = cited.surrogate(span.clone(), run.number("lasso_alpha")?)?;
        let fields: [(&str, Value); 6] = [
            ("token_range", [span.start as u32, span.end as u32].as_slice().into()),
            ("outputs", cited.outputs(span)?.as_slice().into()),
            ("weights", found.weights.as_slice().into()),
            ("bias", found.intercept.into()),
            ("package_weights", found.weights.as_slice().into()),
            ("package_bias", found.intercept.into()),
        ];
        got.extend(fields.map(|(field, value)| (format!("{name}/{field}"), value)));
    }
    Ok(got)
}

/// The case's sources, which must stand apart as it says; sentences must be those we find.
fn sources(run: &Run) -> Fallible<Sources> {
    let (context, parts) = (run.input("context")?.words()?[0].clone(), run.input("sources")?);
    let parts: Vec<&str> = parts.words()?.iter().map(String::as_str).collect();
    let sources = Sources::spans(&context, &parts)?;
    run.same("separators", &Value::Words(sources.separators()))?;
    match run.word("source_type")? {
        "sentence" if Sources::sentences(&context)? != sources => Err("our sentences are others".into()),
        _ => Ok(sources),
    }
}

/// The answer, which the model must give by itself if the case says so.
fn answer(run: &Run, llm: &CausalLm, prompt: &Text) -> Fallible<Continuation> {
    run.same("full_prompt", &Value::Words(vec![prompt.source().into()]))?;
    run.same("prompt_ids", &prompt.ids().as_slice().into())?;
    let response = run.input("response")?.words()?[0].clone();
    run.same("full_output", &Value::Words(vec![format!("{}{response}", prompt.source())]))?;
    let said = llm.continuation(prompt, &response)?;
    match run.case.params.get("generate") {
        Some(Json::Null) => Ok(said),
        _ if llm.generate(prompt, &Sampling::greedy(run.count("generate")?))?.ids() == said.ids() => Ok(said),
        _ => Err("the model answers something else".into()),
    }
}

/// What is read under the first mask.
fn first_prompt(run: &Run, sources: &Sources, masks: &Masks, prompt: impl Fn(&str) -> Result<Text>) -> Fallible<()> {
    let context = sources.ablated_context(&masks.rows()[0])?;
    let read = prompt(&context)?;
    run.same("context_mask0", &Value::Words(vec![context]))?;
    run.same("prompt_mask0", &Value::Words(vec![read.source().into()]))?;
    run.same("prompt_ids_mask0", &read.ids().as_slice().into())
}

/// The whole answer, its first token, and the ranges of characters that the case names.
fn spans(run: &Run, said: &Continuation) -> Fallible<Vec<(String, Range<usize>)>> {
    let mut spans = vec![("all".into(), 0..said.len()), ("first_token".into(), 0..1)];
    for range in run.case.params["ranges"].as_array().ok_or("no ranges")? {
        let (name, start, end): (String, usize, usize) = serde_json::from_value(range.clone())?;
        spans.push((name, said.span(said.text().get(start..end).ok_or("a range beyond the answer")?)?));
    }
    Ok(spans)
}
