//! Pixels and attention of a ViT-S/16 at 224 pixels, against Captum and PyTorch, interleaved in one run.
//!
//! ```text
//! python3 -m venv target/peers && target/peers/bin/pip install -r benches/peers/requirements.txt
//! cargo bench --bench captum_vit               # or -- rollout-8, rollout-1 or pixels
//! ```
//!
//! `PELLUCID_PEERS` names another Python environment. Both sides read the same folder, random weights, and the same picture.
//! *pixels*: Integrated Gradients from black, 50 Gauss–Legendre steps; Captum at several batch sizes. *rollout*: the class
//! token's row of attention rollout of one picture and of eight at once, forward included; PyTorch carries the row down
//! through the layers, as we do. Every round runs each side once; the figures are medians.

mod common;

use std::path::Path;

use common::{Fallible, Racer, ourselves, peer, race, report, serve};
use pellucid::prelude::*;

const THREADS: &str = "2";
const SCRIPT: &str = "captum_vit.py";
const SIDE: usize = 224;

/// A race: our task in it, what the peers are called, their settings, and rounds.
const RACES: [(&str, &str, &[&str], usize); 3] = [
    ("rollout-8", "transformers", &["eager"], 25),
    ("rollout-1", "transformers", &["eager"], 101),
    ("pixels", "Captum", &["batch-1", "batch-5", "batch-10"], 3),
];

fn main() -> Fallible<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vit_s16").to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, task] = &arguments[..]
        && serve == "serve"
    {
        return work(&folder, task);
    }
    if !Path::new(&folder).join("preprocessor_config.json").is_file() {
        peer(SCRIPT, &[&folder, "make", "", THREADS])?.status()?;
    }
    for (task, name, settings, rounds) in RACES {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == task) {
            println!("{task}");
            let mut racers = vec![Racer::start("pellucid", &mut ourselves(&["serve", task])?)?];
            for setting in settings {
                let mut command = peer(SCRIPT, &[&folder, task, setting, THREADS])?;
                racers.push(Racer::start(&format!("{name}, {setting}"), &mut command)?);
            }
            race(&mut racers, rounds)?;
            report(&racers);
        }
    }
    Ok(())
}

fn work(folder: &str, task: &str) -> Fallible<()> {
    rayon::ThreadPoolBuilder::new().num_threads(THREADS.parse()?).build_global()?;
    let vit = Vit::load(folder)?;
    let (x, steps) = (picture()?, Steps::gauss_legendre(50));
    if let Some(pictures) = task.strip_prefix("rollout-") {
        let x = Tensor::stack(&vec![&x; pictures.parse()?], 0)?;
        return serve(|| {
            let rows = rollout_row(&vit.attention_to(&x)?, &vit.readout()?, &Rollout::default())?;
            let patches = rows.narrow(1, 1, vit.patches().count())?;
            Ok((patches.sum_all()?.to_dtype(DType::F64)?.to_scalar()?, 0.0))
        });
    }
    serve(|| {
        let f = |x: &Tensor| Target::Logit(1).of(&vit.logits(x)?);
        let why = integrated_gradients(f, &x, &x.zeros_like()?, &steps)?;
        Ok((why.sum(), why.completeness.map_or(f64::NAN, |law| law.gap())))
    })
}

/// Waves, `(3,h,w)` between 0 and 1.
fn picture() -> Result<Tensor> {
    let wave = |i: usize| {
        let (channel, row, column) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
        0.5 + 0.5 * (channel as f32 + 0.1 * row as f32 + 0.2 * column as f32).sin()
    };
    Ok(Tensor::from_iter((0..3 * SIDE * SIDE).map(wave), &Device::Cpu)?.reshape((3, SIDE, SIDE))?)
}
