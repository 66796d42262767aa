//! Integrated Gradients on a BERT of MiniLM's size, against Captum, interleaved in one run.
//!
//! ```text
//! python3 -m venv target/peers && target/peers/bin/pip install -r benches/peers/requirements.txt
//! cargo bench --bench captum_bert
//! ```
//!
//! `PELLUCID_PEERS` names another Python environment. Both sides explain the same 128 tokens of the same folder in 50
//! Gauss–Legendre steps. Every round runs Captum once at each batch size and pellucid once; the figures are medians.

mod common;

use std::path::Path;

use common::{Fallible, Racer, ourselves, peer, race, report, serve};
use pellucid::prelude::*;

const TOKENS: usize = 128;
const STEPS: usize = 50;
const THREADS: usize = 2;
const ROUNDS: usize = 7;
const BATCHES: [usize; 3] = [1, 10, 50];
const SCRIPT: &str = "captum_bert.py";

fn main() -> Fallible<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bert_minilm").to_string_lossy().into_owned();
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return explain(&folder);
    }
    if !Path::new(&folder).join("vocab.txt").is_file() {
        peer(SCRIPT, &arguments(&folder, 0).each_ref().map(String::as_str))?.status()?;
        write_tokenizer(Path::new(&folder))?;
    }
    let mut racers = vec![Racer::start("pellucid", &mut ourselves(&["serve"])?)?];
    for batch in BATCHES {
        let arguments = arguments(&folder, batch);
        let arguments = arguments.each_ref().map(String::as_str);
        racers.push(Racer::start(&format!("Captum, batch {batch}"), &mut peer(SCRIPT, &arguments)?)?);
    }
    race(&mut racers, ROUNDS)?;
    report(&racers);
    Ok(())
}

fn arguments(folder: &str, batch: usize) -> [String; 5] {
    [folder.into(), TOKENS.to_string(), STEPS.to_string(), batch.to_string(), THREADS.to_string()]
}

fn explain(folder: &str) -> Fallible<()> {
    rayon::ThreadPoolBuilder::new().num_threads(THREADS).build_global()?;
    let bert = Bert::load(folder)?;
    let words: Vec<String> = (0..TOKENS - 2).map(|k| format!("t{}", 1000 + 37 * k % 20000)).collect();
    let text = bert.read(words.join(" "))?;
    serve(|| {
        let x = bert.embed(&text)?;
        let baseline = bert.baseline(&text, &Baseline::token("[PAD]").everywhere())?;
        let f = |x: &Tensor| Target::Logit(1).of(&bert.logits(&text, x)?);
        let ig = integrated_gradients(f, &x, &baseline, &Steps::gauss_legendre(STEPS))?;
        Ok((ig.sum(), ig.completeness.map_or(f64::NAN, |law| law.gap())))
    })
}

/// A vocabulary in which the word «t1234» is token 1234, so that both sides see the same ids.
fn write_tokenizer(folder: &Path) -> std::io::Result<()> {
    let special = |id: usize| match id {
        0 => "[PAD]".to_string(),
        100 => "[UNK]".to_string(),
        101 => "[CLS]".to_string(),
        102 => "[SEP]".to_string(),
        103 => "[MASK]".to_string(),
        id => format!("t{id}"),
    };
    let vocabulary: String = (0..30522).map(|id| special(id) + "\n").collect();
    std::fs::write(folder.join("vocab.txt"), vocabulary)
}
