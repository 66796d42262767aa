//! Explanations of a continuation on a Llama of 25 million parameters, against Captum, interleaved in one run.
//!
//! ```text
//! python3 -m venv target/peers && target/peers/bin/pip install -r benches/peers/requirements.txt
//! cargo bench --bench captum_llm               # or -- ablation, or continuation
//! ```
//!
//! `PELLUCID_PEERS` names another Python environment. Both sides read the same folder: a prompt of 64 tokens, a continuation
//! of 16. *ablation*: every input token replaced by token 0, one at a time. *continuation*: Integrated Gradients, 50
//! Gauss–Legendre steps; ours as the matrix of every input token × every output token, with one walk back through the graph
//! per output token, and as the row of the continuation as a whole, with one in all. Captum has the row only as the sum of
//! the matrix. Every round runs each side once; the figures are medians.

mod common;

use std::path::Path;

use common::{Fallible, Racer, ourselves, peer, race, report, serve};
use pellucid::prelude::*;

const THREADS: &str = "2";
const SCRIPT: &str = "captum_llm.py";

/// A race: its name, our tasks in it, Captum's task and setting, and rounds.
const RACES: [(&str, &[&str], [&str; 2], usize); 2] = [
    ("ablation", &["ablation"], ["ablation", "one-pass"], 7),
    ("continuation", &["row", "matrix"], ["matrix", "batch-10"], 2),
];

fn main() -> Fallible<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("llama_25m").to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, task] = &arguments[..]
        && serve == "serve"
    {
        return work(&folder, task);
    }
    if !Path::new(&folder).join("tokenizer.json").is_file() {
        peer(SCRIPT, &[&folder, "make", "", THREADS])?.status()?;
    }
    for (name, ours, [task, setting], rounds) in RACES {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            println!("{name}");
            let theirs =
                Racer::start(&format!("Captum, {setting}"), &mut peer(SCRIPT, &[&folder, task, setting, THREADS])?)?;
            let ours =
                ours.iter().map(|task| Racer::start(&format!("pellucid, {task}"), &mut ourselves(&["serve", task])?));
            let mut racers = ours.collect::<Fallible<Vec<_>>>()?;
            racers.push(theirs);
            race(&mut racers, rounds)?;
            report(&racers);
        }
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
