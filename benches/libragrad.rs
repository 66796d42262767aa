//! FullGrad+ under the exact and under the balanced gradient on a Llama of 25 million parameters, against PyTorch, interleaved
//! in one run.
//!
//! ```text
//! python3 -m venv target/peers && target/peers/bin/pip install -r benches/peers/requirements.txt
//! cargo bench --bench libragrad
//! ```
//!
//! `PELLUCID_PEERS` names another Python environment. Both sides read the same folder and a prompt of 512 tokens, and explain
//! the logit of token 100 after it; PyTorch's modules are replaced as LibraGrad's authors do in their notebook. Every round
//! runs each side once; the figures are medians. Under LibraGrad Σ scores is 8 layers × the logit; delta is by how much it
//! misses.

mod common;

use std::path::Path;

use common::{Fallible, Racer, ourselves, peer, race, report, serve};
use pellucid::prelude::*;

const THREADS: &str = "2";
const ROUNDS: usize = 9;

fn main() -> Fallible<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("llama_25m").to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, rules, ..] = &arguments[..]
        && serve == "serve"
    {
        return work(&folder, rules);
    }
    if !Path::new(&folder).join("tokenizer.json").is_file() {
        peer("captum_llm.py", &[&folder, "make", "", THREADS])?.status()?;
    }
    let mut racers = Vec::new();
    for rules in ["exact", "libragrad"] {
        racers.push(Racer::start(&format!("pellucid, {rules}"), &mut ourselves(&["serve", rules])?)?);
        let mut theirs = peer("libragrad.py", &[&folder, rules, THREADS])?;
        racers.push(Racer::start(&format!("PyTorch, {rules}"), &mut theirs)?);
    }
    race(&mut racers, ROUNDS)?;
    racers.chunks(2).for_each(report);
    println!("balanced ÷ exact: {:.2} in time", racers[2].median() / racers[0].median());
    Ok(())
}

fn work(folder: &str, rules: &str) -> Fallible<()> {
    rayon::ThreadPoolBuilder::new().num_threads(THREADS.parse()?).build_global()?;
    let rules = if rules == "libragrad" { Rules::libragrad() } else { Rules::exact() };
    let llm = CausalLm::load(folder)?.under(rules);
    let words: Vec<String> = (0..511).map(|k| format!("w{}", 37 * (k + 1) % 7990)).collect();
    let x = llm.embed(&llm.read(words.join(" "))?)?.unsqueeze(0)?;
    let target = Target::Logit(100);
    serve(|| {
        let layers = layer_gradients(|hook| target.of(&llm.next_logits_hooked(&x, hook)?), llm.layers())?;
        let (why, logit) = (full_grad_plus(&layers)?, f64::from(layers.output.to_vec1::<f32>()?[0]));
        Ok((why.sum(), why.sum() / llm.layers() as f64 - logit))
    })
}
