//! ContextCite by the conventions of `context_cite_rollout_cases.json`: masks are strings of ones and zeros, and beside what is
//! right stands what the authors' package says in single precision.

use std::rc::Rc;

use candle_core::DType;
use pellucid::model::text::Tokenizer;
use pellucid::prelude::*;
use serde_json::{Value as Json, json};

use super::Fallible;
use super::check::Check;
use super::context_cite::uniforms;
use super::job::Job;
use super::value::Value;

/// A case of the file.
pub fn job(number: usize, file: &Rc<Vec<Json>>) -> Job {
    let file = file.clone();
    let word = |key: &str| file[number][key].as_str().unwrap_or_default().to_owned();
    let (name, method) = (word("id"), format!("{} {}", word("topic"), word("kind")));
    let work = move || checks(&file[number]);
    Job { method, ..Job::new("cc_rollout", &name, work) }
}

fn checks(case: &Json) -> Fallible<Vec<Check>> {
    known(case)?;
    match case["kind"].as_str() {
        Some("mask_sampling") => masks(case),
        Some("lasso_fit") => surrogate(case),
        Some("aggregate") => aggregate(case),
        Some("token_logit_prob") => token(case),
        Some("assembly") => assembly(case),
        Some("partition_word") => partition(case),
        Some("metric") => metric(case),
        Some("span") => characters(case),
        other => Err(format!("the kind {other:?} is not known").into()),
    }
}

/// The fields a case may have; `desc` and `checks` are for people.
fn known(case: &Json) -> Fallible<()> {
    const KNOWN: [&str; 13] = [
        "id",
        "topic",
        "kind",
        "desc",
        "input",
        "expected",
        "tol",
        "checks",
        "uniforms_seed0_first4",
        "reference_context_cite_0_0_4",
        "closed_form_weights",
        "reference_naive_float32",
        "stable_float32",
    ];
    let fields = case.as_object().ok_or("a case is an object")?;
    let known = |field: &&String| KNOWN.contains(&field.as_str()) || *field == "span_token_1_2";
    match fields.keys().find(|field| !known(field)) {
        Some(field) => Err(format!("the field `{field}` is not known").into()),
        None => Ok(()),
    }
}

fn masks(case: &Json) -> Fallible<Vec<Check>> {
    let mut checks = vec![];
    for (draw, expected) in list(&case["input"])?.iter().zip(list(&case["expected"])?) {
        let (sources, keep) = (number(&draw["d"])? as usize, number(&draw["p"])?);
        let drawn = |&seed: &u32| Ok::<_, Error>(spelt(&draw_masks(sources, 1, keep, seed)?.rows()[0]));
        let drawn = Value::nested(&draw["seeds"])?.ids()?.iter().map(drawn).collect::<Result<_>>()?;
        checks.push(exact("expected", Value::Words(drawn), expected)?);
    }
    let theirs = Value::nested(&case["uniforms_seed0_first4"])?;
    checks.push(Check::new("uniforms_seed0_first4", DType::F64, &uniforms(4, 0)?.as_slice().into(), &theirs, 1e-12));
    Ok(checks)
}

/// Weights, intercept and support; those of the package; and of a single token's span where the case has one.
fn surrogate(case: &Json) -> Fallible<Vec<Check>> {
    let (input, expected, theirs) = (&case["input"], &case["expected"], &case["reference_context_cite_0_0_4"]);
    let (right, near) = (number(&case["tol"]["expected_abs"])?, number(&case["tol"]["reference_abs"])?);
    let found = fit(input, input)?;
    let single = found.intercept.abs() * f64::from(f32::EPSILON); // `reference_abs` is of the weights alone
    let support = (0..found.weights.len() as u32).filter(|&i| found.weights[i as usize] != 0.0).collect::<Vec<_>>();
    let mut checks = vec![
        close("weights", &found.weights, &expected["weights"], right)?,
        close("bias", &[found.intercept], &alone(&expected["bias"]), right)?,
        exact("support", support.as_slice().into(), &expected["support"])?,
        close("the package's weights", &found.weights, &theirs["weights"], near)?,
        close("the package's bias", &[found.intercept], &alone(&theirs["bias"]), near + single)?,
        Check { field: "duality gap".into(), err: found.gap, tol: 1e-12 },
    ];
    if let Some(closed) = case.get("closed_form_weights") {
        checks.push(close("closed_form_weights", &found.weights, closed, right)?);
    }
    if let Some(tokens) = input.get("token_logit_probs") {
        checks.push(close("outputs", &spans(tokens)?, &input["outputs"], 5e-6)?); // in single precision
    }
    if let Some(span) = case.get("span_token_1_2") {
        let found = fit(input, span)?;
        checks.push(close("a span's weights", &found.weights, &span["expected_weights"], right)?);
        checks.push(close("a span's bias", &[found.intercept], &alone(&span["expected_bias"]), right)?);
        checks.push(close("the package's of a span", &found.weights, &span["reference"], near)?);
    }
    Ok(checks)
}

/// The package divides the outputs by the number of tokens, and multiplies the weights by it: the same as α times it.
fn fit(input: &Json, span: &Json) -> Fallible<Surrogate> {
    let alpha = number(&input["alpha"])? * number(&span["num_output_tokens"])?;
    let outputs = Value::nested(&span["outputs"])?;
    Ok(fit_context_surrogate(&Masks::new(read(&input["masks"])?)?, outputs.numbers()?, alpha)?)
}

/// Log-odds of spans and, from them, their log-probabilities; finite where the package is not.
fn aggregate(case: &Json) -> Fallible<Vec<Check>> {
    let (expected, tol) = (&case["expected"], number(&case["tol"]["expected_rel"])?);
    let ours = spans(&case["input"]["token_logit_probs"])?;
    let log_prob = |&f: &f64| if f > 0.0 { -(-f).exp().ln_1p() } else { f - f.exp().ln_1p() };
    let infinite = list(&case["reference_naive_float32"])?.iter().zip(&ours).filter(|(naive, _)| naive.is_string());
    let err = if infinite.clone().all(|(_, ours)| ours.is_finite()) { 0.0 } else { f64::INFINITY };
    Ok(vec![
        relative("logit_prob", &ours, &expected["logit_prob"], tol)?,
        relative("log_prob", &ours.iter().map(log_prob).collect::<Vec<_>>(), &expected["log_prob"], tol)?,
        relative("stable_float32", &ours, &case["stable_float32"], number(&case["tol"]["stable32_rel"])?)?,
        Check { field: "finite where the package is not".into(), err, tol: 0.0 },
    ])
}

fn token(case: &Json) -> Fallible<Vec<Check>> {
    let logits = Value::nested(&case["input"]["logits"])?.tensor(DType::F64)?.unsqueeze(0)?;
    let odds = token_log_odds(&logits, &Value::nested(&case["input"]["labels"])?.ids()?)?;
    Ok(vec![close("expected", &odds.squeeze(0)?.to_vec1()?, &case["expected"], number(&case["tol"]["abs"])?)?])
}

fn assembly(case: &Json) -> Fallible<Vec<Check>> {
    let (input, expected) = (&case["input"], &case["expected"]);
    let sources = sources(&input["text"], &input["parts"])?;
    let left = read(&input["masks"])?.iter().map(|keep| sources.ablated_context(keep)).collect::<Result<_>>()?;
    Ok(vec![
        exact("separators", Value::Words(sources.separators()), &expected["separators"])?,
        exact("start_indices", starts(&sources), &expected["start_indices"])?,
        exact("contexts", Value::Words(left), &expected["contexts"])?,
    ])
}

/// The parts are given: they are spaCy's.
fn partition(case: &Json) -> Fallible<Vec<Check>> {
    let mut checks = vec![];
    for (text, expected) in list(&case["input"])?.iter().zip(list(&case["expected"])?) {
        let sources = sources(text, &expected["parts"])?;
        checks.push(exact("parts", Value::Words(sources.parts()), &expected["parts"])?);
        checks.push(exact("separators", Value::Words(sources.separators()), &expected["separators"])?);
        checks.push(exact("starts", starts(&sources), &expected["starts"])?);
    }
    Ok(checks)
}

/// Rank correlations of surrogates with the outputs, and what is lost without the best sources, for −10 + w·m + 0.8·m₀·m₃.
fn metric(case: &Json) -> Fallible<Vec<Check>> {
    let (input, expected, tol) = (&case["input"], &case["expected"], number(&case["tol"]["abs"])?);
    let (rows, outputs) = (read(&input["masks"])?, Value::nested(&input["f"])?);
    // the file adds up from the last source, and on the rounding of sums it depends which of them are ties
    let mirrored = Masks::new(rows.iter().map(|row| row.iter().rev().copied().collect()).collect())?;
    let linear = |weights: &Json, intercept| {
        Ok::<_, Box<dyn std::error::Error>>(Surrogate {
            weights: Value::nested(weights)?.numbers()?.to_vec(),
            intercept,
            gap: 0.0,
        })
    };
    let mut checks = vec![];
    for (name, scores) in input["scores"].as_object().ok_or("no scores")? {
        let lds = rank_correlation(&linear(&backwards(scores)?, 0.0)?.predict(&mirrored)?, outputs.numbers()?)?;
        checks.push(close(name, &[lds], &alone(&expected["lds"][name]), tol)?);
    }
    let toy = linear(&input["w"], -10.0)?;
    let f = |keep: &[bool]| {
        Ok::<_, Error>(toy.predict(&Masks::new(vec![keep.to_vec()])?)?[0] + if keep[0] && keep[3] { 0.8 } else { 0.0 })
    };
    let best = linear(&input["scores"]["oracle"], 0.0)?;
    for (k, drop) in expected["topk_drop_oracle"].as_object().ok_or("no drops")? {
        let (all, mut without) = (vec![true; mirrored.sources()], vec![true; mirrored.sources()]);
        best.supporting(k.parse()?).into_iter().for_each(|source| without[source] = false);
        checks.push(close(k, &[f(&all)? - f(&without)?], &alone(drop), tol)?);
    }
    Ok(checks)
}

/// Ranges of characters → tokens of an answer, every token of which is a letter that is repeated.
fn characters(case: &Json) -> Fallible<Vec<Check>> {
    let input = &case["input"];
    let first = number(&input["response_start_token"])? as usize;
    let mut starts = Value::nested(&input["token_starts"])?.ids()?.split_off(first);
    starts.push(number(&input["text_len"])? as u32);
    let repeated = |(letter, pair): (char, &[u32])| letter.to_string().repeat((pair[1] - pair[0]) as usize);
    let tokens: Vec<String> = ('a'..='z').zip(starts.windows(2)).map(repeated).collect();
    let tokenizer = one_token_per_letter(&tokens)?;
    let said = tokenizer.continuation(&tokenizer.read(&tokens[0])?, tokens.concat())?;
    let range =
        |ends: &Json| Ok::<_, Box<dyn std::error::Error>>(number(&ends[0])? as usize..number(&ends[1])? as usize);
    let mut found: Vec<u32> = vec![];
    for ends in list(&input["char_spans"])? {
        let span = said.characters(range(ends)?)?;
        found.extend([span.start as u32, span.end as u32]);
    }
    let expected: Vec<Json> =
        list(&case["expected"])?.iter().flat_map(|ends| [ends[0].clone(), ends[1].clone()]).collect();
    Ok(vec![exact("expected", found.as_slice().into(), &Json::Array(expected))?])
}

/// Runs of one letter are tokens.
fn one_token_per_letter(tokens: &[String]) -> Fallible<Tokenizer> {
    let vocab: serde_json::Map<String, Json> =
        tokens.iter().cloned().chain(["?".into()]).zip((0..).map(Json::from)).collect();
    let pattern = ('a'..='z').map(|letter| format!("{letter}+")).collect::<Vec<_>>().join("|");
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false },
        "decoder": { "type": "Fuse" },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "?" },
    });
    Ok(Tokenizer::from_json(json.to_string().as_bytes())?)
}

fn sources(text: &Json, parts: &Json) -> Fallible<Sources> {
    let parts =
        list(parts)?.iter().map(|part| part.as_str().ok_or("a part is a word")).collect::<Result<Vec<_>, _>>()?;
    Ok(Sources::spans(text.as_str().ok_or("a text is a word")?, &parts)?)
}

fn starts(sources: &Sources) -> Value {
    sources.places().iter().map(|place| place.start as u32).collect::<Vec<_>>().as_slice().into()
}

fn spans(rows: &Json) -> Fallible<Vec<f64>> {
    list(rows)?.iter().map(|row| Ok(span_logit(Value::nested(row)?.numbers()?)?)).collect()
}

/// Masks from strings of ones and zeros.
fn read(masks: &Json) -> Fallible<Vec<Vec<bool>>> {
    let row = |mask: &Json| Ok(mask.as_str().ok_or("a mask is a word")?.chars().map(|flag| flag == '1').collect());
    list(masks)?.iter().map(row).collect()
}

fn spelt(mask: &[bool]) -> String {
    mask.iter().map(|&kept| if kept { '1' } else { '0' }).collect()
}

fn list(json: &Json) -> Fallible<&[Json]> {
    Ok(json.as_array().ok_or("a list is expected")?)
}

fn backwards(numbers: &Json) -> Fallible<Json> {
    Ok(list(numbers)?.iter().rev().cloned().collect())
}

/// A number as a list.
fn alone(number: &Json) -> Json {
    Json::Array(vec![number.clone()])
}

fn number(json: &Json) -> Fallible<f64> {
    json.as_f64().ok_or_else(|| "a number is expected".into())
}

fn close(field: &str, ours: &[f64], theirs: &Json, tol: f64) -> Fallible<Check> {
    Ok(Check::new(field, DType::F64, &ours.into(), &Value::nested(theirs)?, tol))
}

fn relative(field: &str, ours: &[f64], theirs: &Json, tol: f64) -> Fallible<Check> {
    let theirs = Value::nested(theirs)?;
    let shares: Vec<f64> = ours.iter().zip(theirs.numbers()?).map(|(ours, theirs)| ours / theirs).collect();
    close(field, &shares, &Json::from(vec![1.0; theirs.numbers()?.len()]), tol)
}

fn exact(field: &str, ours: Value, theirs: &Json) -> Fallible<Check> {
    let theirs = match list(theirs)?.first() {
        Some(Json::String(_)) => Value::decode(theirs)?,
        _ => Value::nested(theirs)?,
    };
    Ok(Check::new(field, DType::F64, &ours, &theirs, 0.0))
}
