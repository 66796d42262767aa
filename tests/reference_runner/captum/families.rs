//! The families of methods this crate has, and the fields each may have.

use candle_core::DType::{self, F32, F64};

use super::record::Record;
use super::{absence, games, llm, methods};
use crate::reference_runner::Fallible;
use crate::reference_runner::check::Check;

/// A family of methods: how their names begin, the fields they know, and the precisions they run in.
struct Family {
    prefix: &'static str,
    fields: &'static [&'static str],
    dtypes: &'static [DType],
    run: fn(&Record, &str, DType) -> Fallible<Vec<Check>>,
}

/// Fields every case may have; the second line is for people, and LIME of a language model reads its options in `source`.
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "name", "kind", "model", "method", "expected", "tolerance", "numpy_value",
    "source", "notes", "reproduced_in_numpy", "numpy_max_abs_err", "captum_tolerance", "assertion",
];

/// What a case about a toy language model may have.
const FIELDS: &[&str] = &["target", "template", "values", "target_text", "prompt_ids", "target_ids", "high_precision"];

/// What a case about coalitions of features may have.
const GAME: &[&str] = &["input", "baseline", "n_inputs", "target", "feature_mask", "n_samples"];

/// How KernelSHAP is described.
const KERNEL: &str = "KernelShap (weights: 1e6 for all-on/all-off, 1 otherwise; sampled p(k)=(M-1)/(k(M-k)); \
    exact limit = Shapley value)";

const BOTH: &[DType] = &[F32, F64];

#[rustfmt::skip]
const FAMILIES: &[Family] = &[
    Family { prefix: "gausslegendre", fields: &["n_steps", "expected_fields"], dtypes: &[F64], run: methods::quadrature },
    Family { prefix: "riemann_", fields: &["n_steps", "expected_fields"], dtypes: &[F64], run: methods::quadrature },
    Family { prefix: "IntegratedGradients ", dtypes: BOTH, run: methods::integrated_gradients,
             fields: &["input", "baseline", "n_inputs", "n_steps", "target", "additional_forward_args", "expected_fields",
                       "expected_convergence_delta", "multiply_by_inputs"] },
    Family { prefix: "LayerIntegratedGradients on ", fields: &["input", "baseline", "n_steps", "target"], dtypes: BOTH,
             run: methods::layer_integrated_gradients },
    Family { prefix: "Saliency(abs=True)", fields: &["input", "target"], dtypes: BOTH, run: methods::saliency },
    Family { prefix: "InputXGradient", fields: &["input", "target"], dtypes: BOTH, run: methods::input_x_gradient },
    Family { prefix: "LayerGradientXActivation(", fields: &["input", "target"], dtypes: BOTH,
             run: methods::layer_gradient_x_activation },
    Family { prefix: "FeatureAblation", dtypes: BOTH, run: methods::feature_ablation,
             fields: &["input", "baseline", "n_inputs", "target", "feature_mask", "perturbations_per_eval"] },
    Family { prefix: "Occlusion", dtypes: BOTH, run: methods::occlusion,
             fields: &["input", "baseline", "n_inputs", "target", "sliding_window_shapes", "strides"] },
    Family { prefix: "ShapleyValues (exact); ShapleyValueSampling within delta=", fields: GAME, dtypes: BOTH,
             run: games::shapley },
    Family { prefix: KERNEL, fields: GAME, dtypes: BOTH, run: games::kernel },
    Family { prefix: "Lime(similarity exp-kernel cosine width ", fields: GAME, dtypes: BOTH, run: games::nearest },
    Family { prefix: "attention rollout: A=mean heads; A+I; row-normalise; A_L...A_1", fields: &["input"], dtypes: BOTH,
             run: methods::rollout },
    Family { prefix: "LLMAttribution(", fields: FIELDS, dtypes: BOTH, run: llm::by_fields },
    Family { prefix: "RemoteLLMAttribution(", fields: FIELDS, dtypes: BOTH, run: llm::by_fields },
    Family { prefix: "log p(target token | prompt, previous target tokens), unperturbed prompt", fields: FIELDS, dtypes: BOTH,
             run: llm::log_probs },
    Family { prefix: "same, all four features absent", fields: FIELDS, dtypes: BOTH, run: llm::log_probs_of_none },
    Family { prefix: "LLMGradientAttribution(LayerIntegratedGradients(emb))", dtypes: BOTH, run: llm::by_embeddings,
             fields: &["target", "baseline", "n_steps", "prompt_text", "prompt_ids", "target_ids", "seq_attr",
                       "expected_convergence_delta"] },
    Family { prefix: "to_model_input(perturbed)", fields: &["input", "perturbed", "mask"], dtypes: BOTH, run: absence::template },
    Family { prefix: "format_attr", fields: &["input"], dtypes: BOTH, run: absence::spread },
    Family { prefix: "TextTokenInput.to_model_input(perturbed)", dtypes: BOTH, run: absence::tokens,
             fields: &["input", "baseline", "perturbed", "skip_tokens"] },
    Family { prefix: "sum_i log sigmoid(l_i) =: s; s - log(1-exp(s))", fields: &["input"], dtypes: &[F64], run: methods::span },
    Family { prefix: "identity rule: grad_in = grad_out * f(x)/(x+1e-10)", fields: &["input"], dtypes: BOTH,
             run: methods::identity_rule },
    Family { prefix: "vit-explain rollout, discard 0", fields: &["input"], dtypes: BOTH, run: methods::rollout },
];

/// The checks of a case in every precision of its family.
pub fn checks(record: &Record) -> Fallible<Vec<Check>> {
    let method = record.word("method")?;
    let family = FAMILIES.iter().find(|family| method.starts_with(family.prefix));
    let family = family.ok_or_else(|| format!("the method `{method}` is not known"))?;
    let known = |field: &str| COMMON.contains(&field) || family.fields.contains(&field);
    if let Some(field) = record.fields().find(|field| !known(field)) {
        return Err(format!("the field `{field}` is not known").into());
    }
    let rest = method.strip_prefix(family.prefix).unwrap_or_default();
    let runs: Vec<_> = family.dtypes.iter().map(|&dtype| (family.run)(record, rest, dtype)).collect::<Fallible<_>>()?;
    Ok(runs.concat())
}
