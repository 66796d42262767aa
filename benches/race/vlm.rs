//! Pixels of a Qwen2-VL, from one next token's logit back, against Captum at several batch sizes and with both attentions of transformers.
//! Both sides read the same prompt and the same bytes of a picture.

use std::path::Path;

use pellucid::prelude::*;

use super::{Family, Race, Same, Task, picture};
use crate::common::plan::Scale;
use crate::common::racer::{Job, serve};
use crate::common::shape::{Cost, Eyes, Model, Work};
use crate::common::{Fallible, device};

pub const FAMILY: Family = Family {
    name: "vlm",
    maker: "captum_vlm.py",
    script: "captum_vlm.py",
    models: "vlm",
    shape,
    work: Some(work),
    races: &[Race {
        ours: &[Task {
            row: "vlm",
            what: "Integrated Gradients over the pixels that a Qwen2-VL reads",
            against: "pixels",
            operations: Some(operations),
            same: Same::Within(1e-3),
        }],
        peer: "Captum",
        peers: &[("pixels", &["sdpa-10", "sdpa-1", "sdpa-5", "eager-10"])],
        rounds: 5,
    }],
    compare: None,
    absent: None,
    on_device: true,
};

const PATCH: usize = 14;
/// A visual token's side, in patches.
const MERGE: usize = 2;
/// The prompt's tokens before the picture's, and after them.
const AROUND: (usize, usize) = (15, 18);
const TARGET: Target = Target::Logit(7);

/// 32 million parameters, and Qwen2-VL-2B.
fn shape(scale: Scale) -> (Model, Work) {
    let ([layers, channels, heads, shared, inner, vocabulary, side, steps], [deep, wide, looks]) = match scale {
        Scale::Dry => ([2, 64, 4, 2, 64, 8000, 56, 8], [2, 32, 2]),
        Scale::Laptop => ([8, 512, 8, 2, 1024, 8000, 224, 50], [6, 320, 8]),
        Scale::Real => ([28, 1536, 12, 2, 8960, 151936, 224, 50], [32, 1280, 16]),
    };
    let eyes = Some(Eyes { layers: deep, channels: wide, heads: looks, inner: 4 * wide });
    let (kind, places, spread) = ("qwen2_vl".into(), 2048, 0.02);
    let model = Model { kind, layers, channels, heads, shared, inner, vocabulary, places, spread, side, eyes };
    (model, Work { steps, ..Work::default() })
}

/// What stands before the picture is read once; the rest is walked there and back at every step.
fn operations(model: &Model, work: &Work) -> f64 {
    let before = model.tower().causal(0..AROUND.0, AROUND.0).forward();
    let seen = model.eyes.as_ref().map_or(Cost::default(), |eyes| seen(model, eyes));
    let end = AROUND.0 + tokens(model) + AROUND.1;
    let read = model.tower().causal(AROUND.0..end, end - 1) + Cost::weights(model.channels);
    before + (seen + read).integrated(work.steps)
}

/// How many visual tokens there are.
fn tokens(model: &Model) -> usize {
    (model.side / PATCH / MERGE).pow(2)
}

/// Patches, whose two frames are alike, the tower over them, and two matrices over four of them at a time.
fn seen(model: &Model, eyes: &Eyes) -> Cost {
    let (patches, merged) = ((model.side / PATCH).pow(2), MERGE * MERGE * eyes.channels);
    let embedding = Cost::weights(patches * 3 * PATCH * PATCH * eyes.channels);
    let merger = Cost::weights(tokens(model) * merged * (merged + model.channels));
    embedding + eyes.tower().full(patches, patches) + merger
}

fn work(job: &Job) -> Fallible<()> {
    let load = device::load(&job.dtype);
    let vlm = Vlm::load_with(&job.folder, &load)?;
    let text = std::fs::read(Path::new(&job.folder).join("prompt.txt"))?;
    let prompt = vlm.read(text, &[Image::from_pixels(&picture(job.model.side, &Device::Cpu, wave)?)?])?;
    let (x, steps) = (prompt.pixels()?, Steps::gauss_legendre(job.work.steps));
    serve(x.device(), || {
        let f = |x: &Tensor| TARGET.of(&vlm.logits(&prompt, x)?);
        let why = integrated_gradients(f, &x, &x.zeros_like()?, &steps)?;
        Ok((why.sum(), why.completeness.map(|law| law.gap())))
    })
}

/// Waves of bytes.
fn wave(channel: usize, row: usize, column: usize) -> f32 {
    let phase = (90 * channel + 7 * row + 13 * column) % 510;
    phase.min(510 - phase) as f32 / 255.0
}
