//! The kinds of cases in `cases.json`: what each may hold, and who runs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use candle_core::DType::{self, F32, F64};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::case::{Case, Run};
use super::check::Check;
use super::job::Job;
use super::suite::Suite;
use super::value::Value;
use super::{
    Fallible, bert, causal, clip, context_cite, continuation, files, last_logit, libra, rollout, sentence, tokens,
    units, vision, vision_language,
};

/// Everything a case may expect, by field. A field that is reached in several ways is there several times, as
/// `field, way`, and each must be right.
pub type Got = BTreeMap<String, Value>;

/// A kind of case: the inputs and parameters it knows, and the precisions it runs in.
struct Kind {
    name: &'static str,
    inputs: &'static [&'static str],
    params: &'static [&'static str],
    dtypes: &'static [DType],
    run: fn(&Run) -> Fallible<Got>,
}

const TEXT: &[&str] = &["text", "text_pair", "input_ids", "token_type_ids", "attention_mask", "tokens"];
const ANY: &[&str] =
    &["text", "text_pair", "input_ids", "token_type_ids", "attention_mask", "tokens", "image", "image_u8_hwc", "texts"];
const PATH: &[&str] = &["text", "text_pair", "input_ids", "token_type_ids", "attention_mask", "tokens", "baseline_ids"];
const PAIR: &[&str] = &["text", "input_ids", "tokens", "baseline_ids", "other_text", "other_ids"];
const PROMPT: &[&str] = &["text", "input_ids", "tokens"];
const SHAKEN: &[&str] = &["text", "input_ids", "tokens", "noise_unit"];
const SEEN: &[&str] = &["image", "image_u8_hwc"];
const HELD: &[&str] = &["image", "image_u8_hwc", "texts", "input_ids", "attention_mask"];
const LOOKED_AT: &[&str] =
    &["image", "image_u8_hwc", "texts", "input_ids", "attention_mask", "prompt", "image_grid_thw", "tokens"];
const ASKED: &[&str] = &["image", "image_u8_hwc", "prompt", "input_ids", "image_grid_thw", "tokens"];
const READ: &[&str] = &["text", "input_ids", "tokens", "image", "image_u8_hwc", "texts", "attention_mask"];
const SAID: &[&str] = &["text", "input_ids", "tokens", "kept", "target_text", "target_ids", "target_tokens"];
const CITED: &[&str] = &[
    "context",
    "query",
    "sources",
    "separators",
    "full_prompt",
    "response",
    "full_output",
    "prompt_ids",
    "prompt_ids_mask0",
    "prompt_mask0",
    "context_mask0",
];

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    Kind { name: "quadrature", inputs: &[], params: &["method", "n_steps"], dtypes: &[F64], run: units::quadrature },
    Kind { name: "ig_closed_form", inputs: &["x", "baseline", "c", "u"], params: &["F", "method", "n_steps"], dtypes: &[F64],
           run: units::closed_form },
    Kind { name: "rollout_matrices", inputs: &["attentions"], params: &["head_fusion", "discard_ratio", "variant"],
           dtypes: &[F64], run: rollout::matrices },
    Kind { name: "tokenize", inputs: &["texts"], params: &["add_special_tokens"], dtypes: &[F32], run: tokens::tokenize },
    Kind { name: "chat_template", inputs: &["messages"], params: &["add_generation_prompt"], dtypes: &[F32], run: tokens::chat },
    Kind { name: "forward_classifier", inputs: TEXT, params: &["padding"], dtypes: &[F32, F64], run: bert::forward },
    Kind { name: "layer_ig_word_embeddings", inputs: PATH, dtypes: &[F32, F64], run: bert::integrated_gradients,
           params: &["target", "method", "n_steps", "layer", "attention_mask"] },
    Kind { name: "attention_rollout", inputs: ANY, dtypes: &[F32, F64], run: rollout::attention,
           params: &["head_fusion", "discard_ratio", "discard_rule", "residual", "normalize", "order"] },
    Kind { name: "forward_sentence", inputs: TEXT, params: &["pooling"], dtypes: &[F32, F64], run: sentence::forward },
    Kind { name: "ig_cosine", inputs: PAIR, params: &["F", "method", "n_steps", "layer"], dtypes: &[F32, F64],
           run: sentence::cosine },
    Kind { name: "forward_causal", inputs: PROMPT, params: &[], dtypes: &[F32, F64], run: causal::forward },
    Kind { name: "ig_embeddings", inputs: PROMPT, dtypes: &[F32, F64], run: last_logit::integrated_gradients,
           params: &["F", "method", "n_steps", "baseline", "target", "target_token"] },
    Kind { name: "grad_at", inputs: PROMPT, params: &["alpha", "baseline", "target"], dtypes: &[F32, F64],
           run: last_logit::gradient },
    Kind { name: "embedding_ablation", inputs: PROMPT, params: &["target", "replacement", "drop"], dtypes: &[F32, F64],
           run: last_logit::ablation },
    Kind { name: "embedding_sensitivity", inputs: SHAKEN, params: &["target", "sigma", "draws", "rule"], dtypes: &[F32, F64],
           run: last_logit::sensitivity },
    Kind { name: "llm_gradient_attribution", inputs: SAID, dtypes: &[F32, F64], run: continuation::integrated_gradients,
           params: &["F", "method", "n_steps", "layer", "skip_tokens", "baseline_id"] },
    Kind { name: "llm_feature_ablation", inputs: SAID, dtypes: &[F32, F64], run: continuation::ablation,
           params: &["skip_tokens", "baseline_id", "attr_target"] },
    Kind { name: "llm_feature_ablation_prob", inputs: SAID, dtypes: &[F32, F64], run: continuation::ablation_of_probabilities,
           params: &["skip_tokens", "baseline_id", "attr_target"] },
    Kind { name: "forward_vision", inputs: SEEN, params: &["mean", "std"], dtypes: &[F32, F64], run: vision::forward },
    Kind { name: "pixel_ig", inputs: LOOKED_AT, dtypes: &[F32, F64], run: vision::integrated_gradients,
           params: &["n_steps", "method", "baseline", "mean", "std", "target", "target_token", "F", "patch_size", "merge_size",
                     "temporal_patch_size"] },
    Kind { name: "pixel_ig_patches", inputs: ASKED, dtypes: &[F32, F64], run: vision_language::by_patches,
           params: &["n_steps", "method", "baseline", "mean", "std", "target", "patch_size", "merge_size", "temporal_patch_size"] },
    Kind { name: "preprocess", inputs: SEEN, params: &["size", "resample", "mean", "std"], dtypes: &[F32], run: vision::preprocess },
    Kind { name: "cc_mask", inputs: &[], params: &["num_sources", "keep_prob", "seeds", "rule"], dtypes: &[F64],
           run: context_cite::masks },
    Kind { name: "cc_logit_probs", inputs: &["logits", "labels"], params: &["rule"], dtypes: &[F64], run: context_cite::token },
    Kind { name: "cc_aggregate", inputs: &["logit_probs"], params: &["rule"], dtypes: &[F64], run: context_cite::aggregate },
    Kind { name: "lasso", inputs: &["X", "y"], params: &["alpha", "standardize", "objective"], dtypes: &[F64],
           run: context_cite::lasso },
    Kind { name: "context_cite", inputs: CITED, dtypes: &[F32, F64], run: context_cite::cited,
           params: &["source_type", "num_ablations", "keep_prob", "lasso_alpha", "standardize", "mask_rng", "prompt_template",
                     "generate", "ranges", "splitter", "weights"] },
    Kind { name: "forward_clip", inputs: HELD, params: &["mean", "std"], dtypes: &[F32, F64], run: clip::forward },
    Kind { name: "forward_vlm", inputs: ASKED, dtypes: &[F32, F64], run: vision_language::forward,
           params: &["mean", "std", "patch_size", "merge_size", "temporal_patch_size"] },
    Kind { name: "libra", inputs: READ, dtypes: &[F32, F64], run: libra::layers,
           params: &["F", "rules", "target", "x0", "unattributed", "mean", "std", "embedding_norm_constant", "text_side"] },
    Kind { name: "libra_pixel", inputs: SEEN, params: &["F", "rules", "target", "x", "mean", "std"], dtypes: &[F32, F64],
           run: libra::pixels },
];

/// Parameters that are sentences for people: what they may say, and what this runner then does.
fn sentences(name: &str) -> Option<Json> {
    Some(match name {
        "F" => json!([
            units::CLOSED_FORM,
            sentence::COSINE,
            last_logit::LAST,
            continuation::LOG_PROBABILITY,
            vision::SIMILARITY,
            vision_language::MOVING,
            libra::LOGIT,
            libra::PROBABILITY,
            libra::SIMILARITY
        ]),
        "x0" => json!(libra::STARTS),
        "unattributed" => json!([libra::UNATTRIBUTED]),
        "text_side" => json!(["constant"]),
        "layer" => json!(["bert.embeddings.word_embeddings", "embeddings.word_embeddings", "model.embed_tokens"]),
        "pooling" => json!(["mean over all tokens, then L2"]),
        "padding" => json!(["right"]),
        "attention_mask" => json!([null, "given"]),
        "add_special_tokens" => json!([true, "both"]),
        "add_generation_prompt" => json!([true]),
        "attr_target" => json!(["log_prob", "prob"]),
        "replacement" => json!(["zero vector"]),
        "drop" => json!(["base_logit - ablated_logit (positive: the token supports the target)"]),
        "rule" => json!([
            "the same draws are added to one token at a time",
            context_cite::DRAWN,
            context_cite::TOKEN,
            context_cite::AGGREGATE
        ]),
        "standardize" => json!([context_cite::STANDARD, true]),
        "source_type" => json!(["sentence", "word"]),
        "mask_rng" => json!([context_cite::SEEDS]),
        "prompt_template" => json!([context_cite::TEMPLATE]),
        "splitter" => json!([context_cite::SENTENCES, context_cite::WORDS]),
        "weights" => json!([context_cite::WEIGHTS]),
        "order" => json!(["last @ ... @ first"]),
        "resample" => json!(["bilinear (antialias, PIL)"]),
        "discard_rule" => json!([rollout::DISCARD]),
        _ => return None,
    })
}

/// The cases of a folder's `cases.json`, if it has one.
pub fn jobs(folder: &Path) -> Vec<Job> {
    const FILE: &str = "cases.json";
    const FORMAT: &str = "xai-oracle-cases/1";
    let contents = match files::json(&folder.join(FILE)) {
        None => return vec![],
        Some(Ok(contents)) if contents["format"] == FORMAT => contents,
        Some(Ok(_)) => return vec![Job::broken("file", FILE, format!("its format is not {FORMAT}"))],
        Some(Err(error)) => return vec![Job::broken("file", FILE, error.to_string())],
    };
    let suite = Rc::new(Suite::new(folder, &contents["models"]));
    match contents["cases"].as_array() {
        Some(cases) => cases.iter().map(|case| job(case.clone(), &suite)).collect(),
        None => vec![Job::broken("file", FILE, "a file without `cases`".into())],
    }
}

fn job(json: Json, suite: &Rc<Suite>) -> Job {
    let (kind, name, method) = (word(&json["kind"]), word(&json["name"]), word(&json["params"]["variant"]));
    let suite = suite.clone();
    let work = move || checks(&Case::deserialize(&json)?, &suite);
    Job { method, ..Job::new(&kind, &name, work) }
}

fn word(json: &Json) -> String {
    json.as_str().unwrap_or_default().into()
}

/// Every expected field, in every precision of the kind.
fn checks(case: &Case, suite: &Suite) -> Fallible<Vec<Check>> {
    let kind = KINDS.iter().find(|kind| kind.name == case.kind).ok_or("a kind of case that is not known")?;
    known("input", case.inputs.keys(), kind.inputs)?;
    known("parameter", case.params.keys(), kind.params)?;
    understood(case)?;
    let mut checks = vec![];
    for &dtype in kind.dtypes {
        let got = (kind.run)(&Run { case, suite, dtype })?;
        for field in case.expected.keys() {
            checks.extend(every_road(case, &got, field, dtype)?);
        }
    }
    Ok(checks)
}

/// A field, by every way it was reached.
fn every_road(case: &Case, got: &Got, field: &str, dtype: DType) -> Fallible<Vec<Check>> {
    let (expected, tol) = (Value::decode(&case.expected[field])?, case.tolerance(field, dtype)?);
    let ours = got.iter().filter(|(road, _)| road.split(", ").next() == Some(field));
    let checks: Vec<_> = ours.map(|(road, ours)| Check::new(road, dtype, ours, &expected, tol)).collect();
    if checks.is_empty() { Err(format!("the expected field `{field}` is not known").into()) } else { Ok(checks) }
}

fn known<'a>(what: &str, mut names: impl Iterator<Item = &'a String>, known: &[&str]) -> Fallible<()> {
    match names.find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("the {what} `{name}` is not known").into()),
        None => Ok(()),
    }
}

fn understood(case: &Case) -> Fallible<()> {
    for (name, value) in &case.params {
        if sentences(name).is_some_and(|sentences| !sentences.as_array().is_some_and(|s| s.contains(value))) {
            return Err(format!("the parameter `{name}` says {value}, which is not known").into());
        }
    }
    Ok(())
}
