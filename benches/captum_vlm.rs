//! Pixels of a Qwen2-VL of 32 million parameters, from one next token's logit back, against Captum, interleaved in one run.
//!
//! ```text
//! python3 -m venv target/peers && target/peers/bin/pip install -r benches/peers/requirements.txt
//! cargo bench --bench captum_vlm
//! ```
//!
//! `PELLUCID_PEERS` names another Python environment. Both sides read the same folder, random weights, the same prompt of 97
//! tokens, 64 of which are the picture's, and the same picture of 224 × 224 bytes. *pixels*: Integrated Gradients from black,
//! 50 Gauss–Legendre steps; Captum at several batch sizes and with both attentions of transformers. Every round runs each
//! side once; the figures are medians.

mod common;

use std::path::Path;

use common::{Fallible, Racer, ourselves, peer, race, report, serve};
use pellucid::prelude::*;

const THREADS: &str = "2";
const SCRIPT: &str = "captum_vlm.py";
/// transformers' attention and Captum's internal batch.
const SETTINGS: [&str; 4] = ["sdpa-1", "sdpa-5", "sdpa-10", "eager-10"];
const ROUNDS: usize = 5;
const SIDE: usize = 224;
const TARGET: Target = Target::Logit(7);

fn main() -> Fallible<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("qwen2_vl_32m").to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.iter().any(|argument| argument == "serve") {
        return work(&folder);
    }
    if !Path::new(&folder).join("prompt.txt").is_file() {
        peer(SCRIPT, &[&folder, "make", "", THREADS])?.status()?;
    }
    let mut racers = vec![Racer::start("pellucid", &mut ourselves(&["serve", "pixels"])?)?];
    for setting in SETTINGS {
        let mut command = peer(SCRIPT, &[&folder, "pixels", setting, THREADS])?;
        racers.push(Racer::start(&format!("Captum, {setting}"), &mut command)?);
    }
    race(&mut racers, ROUNDS)?;
    report(&racers);
    Ok(())
}

fn work(folder: &str) -> Fallible<()> {
    rayon::ThreadPoolBuilder::new().num_threads(THREADS.parse()?).build_global()?;
    let vlm = Vlm::load(folder)?;
    let prompt = vlm.read(std::fs::read(Path::new(folder).join("prompt.txt"))?, &[picture()?])?;
    let (x, steps) = (prompt.pixels()?, Steps::gauss_legendre(50));
    serve(|| {
        let f = |x: &Tensor| TARGET.of(&vlm.logits(&prompt, x)?);
        let why = integrated_gradients(f, &x, &x.zeros_like()?, &steps)?;
        Ok((why.sum(), why.completeness.map_or(f64::NAN, |law| law.gap())))
    })
}

/// Waves of bytes.
fn picture() -> Result<Image> {
    let wave = |i: usize| {
        let (channel, row, column) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
        let phase = (90 * channel + 7 * row + 13 * column) % 510;
        phase.min(510 - phase) as f32 / 255.0
    };
    Image::from_pixels(&Tensor::from_iter((0..3 * SIDE * SIDE).map(wave), &Device::Cpu)?.reshape((3, SIDE, SIDE))?)
}
