//! Pixels of a ViT against Captum, and attention rollout against PyTorch, which carries the class token's row down through the layers,
//! as we do. Both sides read the same picture.

use pellucid::prelude::*;

use super::{Family, Race, Same, Task, picture};
use crate::common::plan::Scale;
use crate::common::racer::{Job, serve};
use crate::common::shape::{Cost, Model, Work};
use crate::common::{Fallible, device};

pub const FAMILY: Family = Family {
    name: "vit",
    maker: "captum_vit.py",
    script: "captum_vit.py",
    models: "vit",
    shape,
    work: Some(work),
    races: &[
        Race {
            ours: &[Task {
                row: "pixels",
                what: "Integrated Gradients over a ViT's pixels",
                against: "pixels",
                operations: Some(|model, work| cost(model).integrated(work.steps)),
                same: Same::Within(1e-3),
            }],
            peer: "Captum",
            peers: &[("pixels", &["batch-10", "batch-1", "batch-5"])],
            rounds: 3,
        },
        Race {
            ours: &[Task {
                row: "rollout-1",
                what: "attention rollout of a picture, forward included",
                against: "rollout-1",
                operations: Some(|model, _| rolled(model).forward()),
                same: Same::Within(1e-4),
            }],
            peer: "PyTorch",
            peers: &[("rollout-1", &["eager"])],
            rounds: 101,
        },
        Race {
            ours: &[Task {
                row: "rollout-8",
                what: "attention rollout of eight pictures at once",
                against: "rollout-8",
                operations: Some(|model, _| 8.0 * rolled(model).forward()),
                same: Same::Within(1e-4),
            }],
            peer: "PyTorch",
            peers: &[("rollout-8", &["eager"])],
            rounds: 25,
        },
    ],
    compare: None,
    absent: None,
    on_device: true,
};

const PATCH: usize = 16;

/// ViT-S/16, and ViT-B/16.
fn shape(scale: Scale) -> (Model, Work) {
    let [layers, channels, heads, side, steps] = match scale {
        Scale::Dry => [2, 48, 6, 64, 8],
        Scale::Laptop => [12, 384, 6, 224, 50],
        Scale::Real => [12, 768, 12, 224, 50],
    };
    let (kind, inner, places) = ("vit".into(), 4 * channels, 0);
    let (shared, vocabulary, spread, eyes) = (heads, 1000, 0.02, None);
    let model = Model { kind, layers, channels, heads, shared, inner, vocabulary, places, spread, side, eyes };
    (model, Work { steps, ..Work::default() })
}

fn patches(model: &Model) -> usize {
    (model.side / PATCH).pow(2)
}

fn embedding(model: &Model) -> Cost {
    Cost::weights(patches(model) * 3 * PATCH * PATCH * model.channels)
}

/// Patches and the class token, which the classifier reads alone: one of its rows.
fn cost(model: &Model) -> Cost {
    embedding(model) + model.tower().full(patches(model) + 1, 1) + Cost::weights(model.channels)
}

/// All blocks but the last; of that the class token's pattern; and its row through all the others.
fn rolled(model: &Model) -> Cost {
    let (tower, t, c) = (model.tower(), patches(model) + 1, model.channels);
    let above = Cost { weights: ((t + 1) * c * c) as f64, activations: (t * c + (tower.layers - 1) * t * t) as f64 };
    let below = crate::common::shape::Tower { layers: tower.layers - 1, ..tower };
    embedding(model) + below.full(t, t) + above
}

fn work(job: &Job) -> Fallible<()> {
    let load = device::load(&job.dtype);
    let vit = Vit::load_with(&job.folder, &load)?;
    let (x, steps) = (picture(job.model.side, &pellucid::device()?, wave)?, Steps::gauss_legendre(job.work.steps));
    let x = x.to_dtype(load.dtype)?;
    if let Some(pictures) = job.task.strip_prefix("rollout-") {
        let x = Tensor::stack(&vec![&x; pictures.parse()?], 0)?;
        return serve(x.device(), || {
            let rows = rollout_row(&vit.attention_to(&x)?, &vit.readout()?, &Rollout::default())?;
            let patches = rows.narrow(1, 1, vit.patches().count())?;
            Ok((patches.to_dtype(DType::F64)?.sum_all()?.to_scalar()?, None))
        });
    }
    serve(x.device(), || {
        let f = |x: &Tensor| Target::Logit(1).of(&vit.logits(x)?);
        let why = integrated_gradients(f, &x, &x.zeros_like()?, &steps)?;
        Ok((why.sum(), why.completeness.map(|law| law.gap())))
    })
}

/// Waves.
fn wave(channel: usize, row: usize, column: usize) -> f32 {
    0.5 + 0.5 * (channel as f32 + 0.1 * row as f32 + 0.2 * column as f32).sin()
}
