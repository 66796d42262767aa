//! ContextCite on a Llama of 25 million parameters, against context-cite, interleaved in one run.
//!
//! ```text
//! python3 -m venv target/peers && target/peers/bin/pip install -r benches/peers/requirements.txt
//! cargo bench --bench context_cite             # or -- passes, or spans
//! ```
//!
//! `PELLUCID_PEERS` names another Python environment. Both sides read the same folder: a context of 32 lines in a prompt of
//! 512 tokens, and an answer of 48, which is given. First the two are compared: the masks, every token's log-odds and the
//! scores of every span; the bench stops where they differ. *passes*: 64 masks and the scores of the whole answer; *fast*: the
//! same from what follows the context alone; *checked*: and 8 of the masks exactly as well. context-cite runs at several
//! batch sizes. *spans*: the scores of each of the answer's 48 words, after the passes. Every round runs each side once; the
//! figures are medians.

mod common;

use std::ops::Range;
use std::path::Path;

use common::{Fallible, Racer, ourselves, peer, race, report, serve};
use pellucid::prelude::*;

const THREADS: &str = "2";
const SCRIPT: &str = "contextcite.py";
const ALPHA: f64 = 0.01;
/// How far apart a token's log-odds and a source's score may be; context-cite works in single precision.
const FAR: (f64, f64) = (1e-3, 1e-2);

/// A race: its name, our tasks in it, the peer's settings, and rounds.
const RACES: [(&str, &[&str], &[&str], usize); 2] = [
    ("passes", &["passes", "fast", "checked"], &["batch-1", "batch-2", "batch-4", "batch-8", "batch-16"], 5),
    ("spans", &["spans"], &["batch-1"], 15),
];

fn main() -> Fallible<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("llama_25m_chat").to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, task] = &arguments[..]
        && serve == "serve"
    {
        return work(&folder, task);
    }
    if !Path::new(&folder).join("asked.json").is_file() {
        peer(SCRIPT, &[&folder, "make", "", THREADS])?.status()?;
    }
    compare(&folder)?;
    for (task, ours, settings, rounds) in RACES {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == task) {
            println!("{task}");
            let ours =
                ours.iter().map(|task| Racer::start(&format!("pellucid, {task}"), &mut ourselves(&["serve", task])?));
            let mut racers = ours.collect::<Fallible<Vec<_>>>()?;
            for setting in settings {
                let mut command = peer(SCRIPT, &[&folder, task, setting, THREADS])?;
                racers.push(Racer::start(&format!("context-cite, {setting}"), &mut command)?);
            }
            race(&mut racers, rounds)?;
            report(&racers);
        }
    }
    Ok(())
}

fn work(folder: &str, task: &str) -> Fallible<()> {
    let asked = Asked::load(folder)?;
    match task {
        "spans" => {
            let cited = asked.cited()?;
            let words = words(&asked.said);
            serve(|| {
                let sums = words.iter().map(|word| Ok(cited.attribute_span(word.clone(), ALPHA)?.sum()));
                Ok((sums.sum::<Result<f64>>()?, 0.0))
            })
        }
        "fast" => serve(|| asked.explained(&asked.cited_by(&Passes::fast(0))?)),
        "checked" => serve(|| asked.explained(&asked.cited_by(&Passes::fast(8))?)),
        _ => serve(|| asked.explained(&asked.cited()?)),
    }
}

/// Every word of an answer, which is a token.
fn words(said: &Continuation) -> Vec<Range<usize>> {
    (0..said.len()).map(|word| word..word + 1).collect()
}

/// A model, and an answer that it is asked about.
struct Asked {
    llm: CausalLm,
    sources: Sources,
    query: String,
    said: Continuation,
}

impl Asked {
    fn load(folder: &str) -> Fallible<Self> {
        rayon::ThreadPoolBuilder::new().num_threads(THREADS.parse()?).build_global()?;
        let asked: serde_json::Value = serde_json::from_slice(&std::fs::read(Path::new(folder).join("asked.json"))?)?;
        let asked = |name: &str| asked[name].as_str().map(str::to_owned).ok_or(format!("no {name} in asked.json"));
        let (llm, sources, query) = (CausalLm::load(folder)?, Sources::sentences(&asked("context")?)?, asked("query")?);
        let said = llm.continuation(&prompt(&llm, sources.context(), &query)?, asked("answer")?)?;
        Ok(Self { llm, sources, query, said })
    }

    /// All passes, exactly.
    fn cited(&self) -> Result<ContextCite> {
        self.cited_by(&Passes::exact())
    }

    fn cited_by(&self, passes: &Passes) -> Result<ContextCite> {
        let masks = draw_masks(self.sources.len(), 64, 0.5, 0)?;
        let prompt = |context: &str| prompt(&self.llm, context, &self.query);
        ContextCite::with_passes(&self.llm, &self.sources, &masks, &self.said, prompt, passes)
    }

    /// The sum of the whole answer's scores.
    fn explained(&self, cited: &ContextCite) -> Fallible<(f64, f64)> {
        Ok((cited.attribute_span(0..self.said.len(), ALPHA)?.sum(), 0.0))
    }
}

fn prompt(llm: &CausalLm, context: &str, query: &str) -> Result<Text> {
    llm.chat(&[Message::user(&context_prompt(context, query)?)])
}

/// Masks, log-odds `(m,o)`, and the scores of the whole answer and of each of its words.
type Shown = (Vec<Vec<bool>>, Vec<Vec<f64>>, Vec<Vec<f64>>);

/// Says how far apart the two sides are.
///
/// Errors: too far.
fn compare(folder: &str) -> Fallible<()> {
    let theirs = peer(SCRIPT, &[folder, "show", "batch-1", THREADS])?.output()?;
    let (masks, log_odds, scores): Shown = serde_json::from_slice(&theirs.stdout)?;
    let asked = Asked::load(folder)?;
    let cited = asked.cited()?;
    let mut spans = words(&asked.said);
    spans.insert(0, 0..asked.said.len());
    let ours = spans.into_iter().map(|span| Ok(cited.surrogate(span, ALPHA)?.weights));
    let ours = ours.collect::<Result<Vec<_>>>()?;
    let (odds, score) = (farthest(&cited.log_odds()?.to_vec2()?, &log_odds), farthest(&ours, &scores));
    println!(
        "{} tokens after the prompt's {}, {} sources, {} masks; log-odds differ by at most {odds:.1e}, scores by {score:.1e}, the \
         largest of which is {:.2}",
        asked.said.len(),
        asked.said.prompt().len(),
        asked.sources.len(),
        masks.len(),
        scores.iter().flatten().fold(0.0, |most: f64, score| most.max(score.abs())),
    );
    let (fast, whole) = (asked.cited_by(&Passes::fast(8))?, 0..asked.said.len());
    let far = rank_correlation(&fast.outputs(whole.clone())?, &cited.outputs(whole.clone())?)?;
    println!(
        "fast: rank correlation with the exact log-odds {far:.3}, on the 8 masks asked both ways {:.3}; of the scores {:.3}",
        fast.agreement(whole.clone())?.unwrap_or(f64::NAN),
        fast.attribute_span(whole.clone(), ALPHA)?.agreement(&cited.attribute_span(whole, ALPHA)?)?,
    );
    match masks == cited.masks().rows() && odds < FAR.0 && score < FAR.1 {
        true => Ok(()),
        false => Err("the two sides do not do the same".into()),
    }
}

/// The largest difference; infinite between tables of different shapes.
fn farthest(ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> f64 {
    if !ours.iter().map(Vec::len).eq(theirs.iter().map(Vec::len)) {
        return f64::INFINITY;
    }
    let pairs = ours.iter().flatten().zip(theirs.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
