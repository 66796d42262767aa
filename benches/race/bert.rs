//! Integrated Gradients on a BERT, against Captum. Both sides explain the same tokens of the same folder.

use pellucid::prelude::*;

use super::{Family, Race, Same, Task};
use crate::common::plan::Scale;
use crate::common::racer::{Job, serve};
use crate::common::shape::{Cost, Model, Work};
use crate::common::{Fallible, device};

pub const FAMILY: Family = Family {
    name: "bert",
    maker: "captum_bert.py",
    script: "captum_bert.py",
    models: "bert",
    shape,
    work: Some(work),
    races: &[Race {
        ours: &[Task {
            row: "bert",
            what: "Integrated Gradients on BERT",
            against: "ig",
            operations: Some(|model, work| cost(model, work).integrated(work.steps)),
            same: Same::Within(1e-3),
        }],
        peer: "Captum",
        peers: &[("ig", &["batch-10", "batch-1", "batch-50"])],
        rounds: 7,
    }],
    compare: None,
    absent: None,
    on_device: true,
};

/// MiniLM's size, and BERT-base.
fn shape(scale: Scale) -> (Model, Work) {
    let (layers, channels, tokens, steps) = match scale {
        Scale::Dry => (2, 48, 16, 8),
        Scale::Laptop => (6, 384, 128, 50),
        Scale::Real => (12, 768, 128, 50),
    };
    let model = Model {
        kind: "bert".into(),
        layers,
        channels,
        heads: 12,
        shared: 12,
        inner: 4 * channels,
        vocabulary: 30522,
        places: 512,
        spread: 0.02,
        side: 0,
        eyes: None,
    };
    (model, Work { tokens, steps, ..Work::default() })
}

/// All tokens see each other, and the classifier reads the first: the pooler's matrix, and one row of two.
fn cost(model: &Model, work: &Work) -> Cost {
    model.tower().full(work.tokens, 1) + Cost::weights(model.channels * model.channels + model.channels)
}

fn work(job: &Job) -> Fallible<()> {
    let bert = Bert::load_with(&job.folder, &device::load(&job.dtype))?;
    let words: Vec<String> = (0..job.work.tokens - 2).map(|k| format!("t{}", 1000 + 37 * k % 20000)).collect();
    let text = bert.read(words.join(" "))?;
    let x = bert.embed(&text)?;
    serve(x.device(), || {
        let x = bert.embed(&text)?;
        let baseline = bert.baseline(&text, &Baseline::token("[PAD]").everywhere())?;
        let f = |x: &Tensor| Target::Logit(1).of(&bert.logits(&text, x)?);
        let ig = integrated_gradients(f, &x, &baseline, &Steps::gauss_legendre(job.work.steps))?;
        Ok((ig.sum(), ig.completeness.map(|law| law.gap())))
    })
}
