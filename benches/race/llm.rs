//! Explanations of a continuation, against Captum. Captum has the row of the continuation as a whole only as the sum of the matrix.

use pellucid::prelude::*;

use super::{Family, Race, Same, Task, words};
use crate::common::plan::Scale;
use crate::common::racer::{Job, serve};
use crate::common::shape::{Cost, Model, Work};
use crate::common::{Fallible, device};

pub const FAMILY: Family = Family {
    name: "llm",
    maker: "captum_llm.py",
    script: "captum_llm.py",
    models: "llm",
    shape,
    work: Some(work),
    races: &[
        Race {
            ours: &[
                Task {
                    row: "matrix",
                    what: "Integrated Gradients on an LLM, every input × every output token",
                    against: "matrix",
                    operations: Some(matrix),
                    same: Same::Within(1e-3),
                },
                Task {
                    row: "sequence",
                    what: "the same of the continuation as a whole",
                    against: "matrix",
                    operations: Some(|model, work| cost(model, work).integrated(work.steps)),
                    same: Same::Within(1e-3),
                },
            ],
            peer: "Captum",
            peers: &[("matrix", &["batch-10"])],
            rounds: 2,
        },
        Race {
            ours: &[Task {
                row: "ablation",
                what: "feature ablation of every input token",
                against: "ablation",
                operations: Some(ablation),
                same: Same::Within(1e-3),
            }],
            peer: "Captum",
            peers: &[("ablation", &["one-pass"])],
            rounds: 7,
        },
    ],
    compare: None,
    absent: None,
    on_device: true,
};

fn shape(scale: Scale) -> (Model, Work) {
    let (tokens, said, steps) = match scale {
        Scale::Dry => (12, 3, 8),
        Scale::Laptop => (64, 16, 50),
        Scale::Real => (64, 15, 50),
    };
    (model(scale, 0.02), Work { tokens, said, steps, ..Work::default() })
}

/// A Llama of 25 million parameters, and Qwen2.5-1.5B.
pub fn model(scale: Scale, spread: f64) -> Model {
    let [layers, channels, heads, shared, inner, vocabulary] = match scale {
        Scale::Dry => [2, 32, 4, 2, 64, 8000],
        Scale::Laptop => [8, 512, 8, 4, 1152, 8000],
        Scale::Real => [28, 1536, 12, 2, 8960, 151936],
    };
    let kind = if scale == Scale::Real { "qwen2" } else { "llama" }.into();
    Model { kind, layers, channels, heads, shared, inner, vocabulary, places: 2048, spread, side: 0, eyes: None }
}

/// The prompt and all of the continuation but its last token, the vocabulary where a token of the continuation is predicted.
fn cost(model: &Model, work: &Work) -> Cost {
    let (tokens, said) = (work.tokens, work.said);
    model.tower().causal(0..tokens + said - 1, tokens - 1) + model.head(said)
}

/// One forward for all output tokens, and one walk back for each, from where it is predicted.
fn matrix(model: &Model, work: &Work) -> f64 {
    let predicted = |k: usize| model.tower().causal(0..work.tokens + k, work.tokens + k - 1) + model.head(1);
    let back: f64 = (0..work.said).map(|k| predicted(k).back()).sum();
    let forward = cost(model, work).forward();
    work.steps as f64 * (forward + back) + 2.0 * forward
}

/// The text, and of each variant what follows the token that is replaced; the first, which is special, stays.
fn ablation(model: &Model, work: &Work) -> f64 {
    let end = work.tokens + work.said - 1;
    let from = |token: usize| (model.tower().causal(token..end, work.tokens - 1) + model.head(work.said)).forward();
    (0..work.tokens).map(from).sum()
}

fn work(job: &Job) -> Fallible<()> {
    let llm = CausalLm::load_with(&job.folder, &device::load(&job.dtype))?;
    let prompt = llm.read(words(job.work.tokens - 1, 37))?;
    let said = llm.continuation(&prompt, words(job.work.said, 91))?;
    let (x, blank) = (llm.embed(&prompt)?, llm.baseline(&prompt, &Baseline::id(0))?);
    let steps = Steps::gauss_legendre(job.work.steps);
    serve(x.device(), || {
        let why = match job.task.as_str() {
            "matrix" => integrated_gradients(|x| llm.log_probs(&said, x), &x, &blank, &steps)?,
            "sequence" => integrated_gradients(|x| Ok(llm.log_probs(&said, x)?.sum(1)?), &x, &blank, &steps)?,
            _ => feature_ablation(|x| llm.log_probs(&said, x), &x, &blank, &Groups::rows(&x))?,
        };
        Ok((why.sum(), why.completeness.map(|law| law.gap())))
    })
}
