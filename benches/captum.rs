//! Integrated Gradients on a BERT of MiniLM's size, against Captum, interleaved in one run.
//!
//! ```text
//! python3 -m venv target/peers && target/peers/bin/pip install -r benches/peers/requirements.txt
//! cargo bench --bench captum
//! ```
//!
//! `PELLUCID_PEERS` names another Python environment. Both sides explain the same 128 tokens of the same folder in 50
//! Gauss–Legendre steps. Every round runs Captum once at each batch size and pellucid once; the figures are medians.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use pellucid::prelude::*;

const TOKENS: usize = 128;
const STEPS: usize = 50;
const THREADS: usize = 2;
const ROUNDS: usize = 7;
const BATCHES: [usize; 3] = [1, 10, 50];

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    rayon::ThreadPoolBuilder::new().num_threads(THREADS).build_global()?;
    let python = python().ok_or("no Python with Captum: see the first lines of benches/captum.rs")?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bert_minilm");
    if !folder.join("vocab.txt").is_file() {
        peer(&python, &folder, 0)?.wait()?;
        write_tokenizer(&folder)?;
    }
    let mut peers = BATCHES.map(|batch| Peer::start(&python, &folder, batch));
    let bert = Bert::load(&folder.to_string_lossy())?;
    let mut ours = Vec::new();
    let mut theirs = vec![Vec::new(); BATCHES.len()];
    for round in 0..=ROUNDS {
        let mine = explain(&bert)?;
        let other: Vec<Run> = peers
            .iter_mut()
            .map(|peer| peer.as_mut().map_err(|e| e.to_string())?.run())
            .collect::<std::result::Result<_, String>>()?;
        if round > 0 {
            ours.push(mine);
            theirs.iter_mut().zip(other).for_each(|(runs, run)| runs.push(run));
        }
    }
    report(&ours, &theirs);
    Ok(())
}

/// One timed explanation.
#[derive(Clone, Copy)]
struct Run {
    seconds: f64,
    peak_mib: f64,
    sum: f64,
    delta: f64,
}

fn explain(bert: &Bert) -> Result<Run> {
    let words: Vec<String> = (0..TOKENS - 2).map(|k| format!("t{}", 1000 + 37 * k % 20000)).collect();
    let text = bert.read(words.join(" "))?;
    let start = Instant::now();
    let x = bert.embed(&text)?;
    let baseline = bert.baseline(&text, &Baseline::token("[PAD]").everywhere())?;
    let f = |x: &Tensor| Target::Logit(1).of(&bert.logits(&text, x)?);
    let ig = integrated_gradients(f, &x, &baseline, &Steps::gauss_legendre(STEPS))?;
    let seconds = start.elapsed().as_secs_f64();
    let delta = ig.completeness.map_or(f64::NAN, |law| law.gap());
    Ok(Run { seconds, peak_mib: peak_mib(), sum: ig.sum(), delta })
}

fn report(ours: &[Run], theirs: &[Vec<Run>]) {
    let line = |name: &str, runs: &[Run]| {
        let [low, middle, high] = spread(runs.iter().map(|run| run.seconds));
        let peak = runs.iter().map(|run| run.peak_mib).fold(0.0, f64::max);
        let Run { sum, delta, .. } = runs[0];
        println!("{name:<18} {middle:.3} s ({low:.3}–{high:.3}), peak {peak:.0} MiB, Σ {sum:+.6}, delta {delta:+.1e}");
        (middle, peak)
    };
    let (mine, memory) = line("pellucid", ours);
    let peers = BATCHES.iter().zip(theirs).map(|(batch, runs)| line(&format!("Captum, batch {batch}"), runs));
    let best = peers.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NAN, f64::NAN));
    println!("against Captum at its best: {:.2} × as fast, {:.2} × the memory", best.0 / mine, memory / best.1);
}

/// Least, median and greatest.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// This process's peak memory, as the kernel counts it.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
}

/// A Captum process that explains on demand.
struct Peer {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Peer {
    fn start(python: &Path, folder: &Path, batch: usize) -> std::io::Result<Self> {
        let mut child = peer(python, folder, batch)?;
        let missing = || std::io::Error::other("the peer has no pipes");
        let orders = child.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Self { orders, answers, child })
    }

    fn run(&mut self) -> std::result::Result<Run, String> {
        let mut line = String::new();
        writeln!(self.orders).and_then(|()| self.answers.read_line(&mut line)).map_err(|e| e.to_string())?;
        let [seconds, peak_mib, sum, delta]: [f64; 4] =
            serde_json::from_str(&line).map_err(|e| format!("{e}: {line}"))?;
        Ok(Run { seconds, peak_mib, sum, delta })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn peer(python: &Path, folder: &Path, batch: usize) -> std::io::Result<Child> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/captum_bert.py");
    let numbers = [TOKENS, STEPS, batch, THREADS].map(|n| n.to_string());
    Command::new(python).arg(script).arg(folder).args(numbers).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

fn python() -> Option<PathBuf> {
    let named = std::env::var_os("PELLUCID_PEERS").map(PathBuf::from);
    let env = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"));
    Some(env.join("bin/python")).filter(|python| python.exists())
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
