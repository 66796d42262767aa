//! Explanations of a continuation on a Llama of 25 million parameters, against Captum, interleaved in one run.
//!
//! ```text
//! python3 -m venv target/peers && target/peers/bin/pip install -r benches/peers/requirements.txt
//! cargo bench --bench captum_llm               # or -- matrix, row, ablation
//! ```
//!
//! `PELLUCID_PEERS` names another Python environment. Both sides read the same folder: a prompt of 64 tokens, a continuation
//! of 16. *matrix*: Integrated Gradients, 50 Gauss–Legendre steps, every input token × every output token. *row*: the same
//! for the continuation as a whole, which Captum has only as the sum of the matrix. *ablation*: every input token replaced
//! by token 0, one at a time. Every round runs each side once; the figures are medians.

mod common;

use std::path::Path;

use common::{Fallible, Racer, ourselves, peer, race, report, serve};
use pellucid::prelude::*;

const THREADS: &str = "2";
const SCRIPT: &str = "captum_llm.py";

/// A task, Captum's settings to try, and rounds.
const TASKS: [(&str, &[&str], usize); 3] =
    [("matrix", &["batch-10"], 3), ("row", &["batch-10"], 3), ("ablation", &["one-pass"], 7)];

fn main() -> Fallible<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("llama_25m").to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, task] = &arguments[..] {
        assert_eq!(serve, "serve");
        return work(&folder, task);
    }
    if !Path::new(&folder).join("tokenizer.json").is_file() {
        peer(SCRIPT, &[&folder, "make", "", THREADS])?.status()?;
    }
    for (task, settings, rounds) in
        TASKS.iter().filter(|task| arguments.is_empty() || arguments.contains(&task.0.into()))
    {
        println!("{task}");
        let mut racers = vec![Racer::start("pellucid", &mut ourselves(&["serve", task])?)?];
        for setting in *settings {
            let name = format!("Captum, {setting}");
            racers.push(Racer::start(&name, &mut peer(SCRIPT, &[&folder, task, setting, THREADS])?)?);
        }
        race(&mut racers, *rounds)?;
        report(&racers);
    }
    Ok(())
}

fn work(folder: &str, task: &str) -> Fallible<()> {
    rayon::ThreadPoolBuilder::new().num_threads(THREADS.parse()?).build_global()?;
    let llm = CausalLm::load(folder)?;
    let words = |count: usize, factor: usize| {
        (0..count).map(|k| format!("w{}", factor * (k + 1) % 7990)).collect::<Vec<_>>().join(" ")
    };
    let prompt = llm.read(words(63, 37))?;
    let said = llm.continuation(&prompt, words(16, 91))?;
    let (x, blank) = (llm.embed(&prompt)?, llm.baseline(&prompt, &Baseline::id(0))?);
    let steps = Steps::gauss_legendre(50);
    serve(|| {
        let why = match task {
            "matrix" => integrated_gradients(|x| llm.log_probs(&said, x), &x, &blank, &steps)?,
            "row" => integrated_gradients(|x| Ok(llm.log_probs(&said, x)?.sum(1)?), &x, &blank, &steps)?,
            _ => feature_ablation(|x| llm.log_probs(&said, x), &x, &blank, &Groups::rows(&x))?,
        };
        Ok((why.sum(), why.completeness.map_or(0.0, |law| law.gap())))
    })
}
