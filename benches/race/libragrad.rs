//! FullGrad+ under the exact and under the balanced gradient, against PyTorch, whose modules are replaced as LibraGrad's authors do in their
//! notebook. Both sides explain the logit of one token after the prompt. Under LibraGrad Σ scores is layers × the logit; delta is by how much
//! it misses.

use pellucid::prelude::*;

use super::{Family, Race, Same, Task, llm, words};
use crate::common::plan::Scale;
use crate::common::racer::{Job, serve};
use crate::common::shape::{Cost, Model, Work};
use crate::common::{Fallible, device};

pub const FAMILY: Family = Family {
    name: "fullgrad",
    maker: "captum_llm.py",
    script: "libragrad.py",
    models: "llm",
    shape,
    work: Some(work),
    races: &[Race {
        ours: &[
            Task {
                row: "exact",
                what: "FullGrad+ of one logit, exact gradient",
                against: "exact",
                operations: Some(|model, work| cost(model, work).forward() + cost(model, work).back()),
                same: Same::Within(1e-3),
            },
            Task {
                row: "libragrad",
                what: "FullGrad+ of one logit, LibraGrad",
                against: "libragrad",
                operations: Some(|model, work| cost(model, work).forward() + balanced_back(model, work)),
                same: Same::Within(1e-3),
            },
        ],
        peer: "PyTorch",
        peers: &[("exact", &["sdpa"]), ("libragrad", &["sdpa"])],
        rounds: 9,
    }],
    compare: None,
    absent: None,
    on_device: true,
};

fn shape(scale: Scale) -> (Model, Work) {
    let tokens = if scale == Scale::Dry { 24 } else { 512 };
    (llm::model(scale, 0.02), Work { tokens, ..Work::default() })
}

/// The prompt, and one logit after it.
fn cost(model: &Model, work: &Work) -> Cost {
    model.tower().causal(0..work.tokens, work.tokens - 1) + Cost::weights(model.channels)
}

/// Patterns are constants: back to the values alone, and through nothing that gives queries and keys.
fn balanced_back(model: &Model, work: &Work) -> f64 {
    let Cost { weights, activations } = cost(model, work);
    weights - model.tower().queries_and_keys(work.tokens).weights + activations / 2.0
}

fn work(job: &Job) -> Fallible<()> {
    let rules = if job.task == "libragrad" { Rules::libragrad() } else { Rules::exact() };
    let llm = CausalLm::load_with(&job.folder, &device::load(&job.dtype))?.under(rules);
    let x = llm.embed(&llm.read(words(job.work.tokens - 1, 37))?)?.unsqueeze(0)?;
    let target = Target::Logit(100);
    serve(x.device(), || {
        let layers = layer_gradients(|hook| target.of(&llm.next_logits_hooked(&x, hook)?), llm.layers())?;
        let logit: f64 = layers.output.to_dtype(DType::F64)?.sum_all()?.to_scalar()?;
        let why = full_grad_plus(&layers)?;
        Ok((why.sum(), Some(why.sum() / llm.layers() as f64 - logit)))
    })
}
