//! ContextCite against context-cite. Both sides read the same folder, context, query and answer, which is given. Before anything is measured
//! the two are compared: the masks, every token's log-odds and the scores of every span.

use std::collections::BTreeSet;
use std::ops::Range;

use pellucid::prelude::*;

use super::{Family, Race, Same, Task, llm, words};
use crate::common::plan::Scale;
use crate::common::racer::{Job, peer, serve};
use crate::common::shape::{Cost, Model, Work};
use crate::common::{Fallible, device};

pub const FAMILY: Family = Family {
    name: "context-cite",
    maker: "contextcite.py",
    script: "contextcite.py",
    models: "chat",
    shape,
    work: Some(work),
    races: &[
        Race {
            ours: &[
                Task {
                    row: "cite",
                    what: "ContextCite, every mask read anew",
                    against: "passes",
                    operations: Some(|model, work| exactly(model, work, work.masks)),
                    same: Same::Within(1e-3),
                },
                Task {
                    row: "cite-fast",
                    what: "the same from what follows the context alone, unchecked",
                    against: "passes",
                    operations: Some(fast),
                    same: Same::Another(TRACES),
                },
                Task {
                    row: "cite-checked",
                    what: "the same, some masks exactly as well",
                    against: "passes",
                    operations: Some(|model, work| fast(model, work) + exactly(model, work, CHECKED)),
                    same: Same::Another(TRACES),
                },
            ],
            peer: "context-cite",
            peers: &[("passes", &["batch-1", "batch-2", "batch-4", "batch-8", "batch-16"])],
            rounds: 5,
        },
        Race {
            ours: &[Task {
                row: "cite-spans",
                what: "the scores of each word of the answer, after the passes",
                against: "spans",
                operations: None,
                same: Same::Within(1e-2),
            }],
            peer: "context-cite",
            peers: &[("spans", &["batch-1"])],
            rounds: 15,
        },
    ],
    compare: Some(compare),
    absent: None,
    on_device: true,
};

const TRACES: &str = "what is kept was read while the rest was there";
/// Masks that are asked exactly as well.
const CHECKED: usize = 8;
const ALPHA: f64 = 0.01;
/// How far apart a token's log-odds and a source's score may be; context-cite works in single precision.
const FAR: (f64, f64) = (1e-3, 1e-2);
/// Words of the lines, in turn; of the query; and tokens before the context, and around the query.
const LENGTHS: [usize; 4] = [9, 13, 17, 21];
const QUERY: usize = 28;
const AROUND: (usize, usize) = (2, 2);

fn shape(scale: Scale) -> (Model, Work) {
    let [sources, said, masks] = match scale {
        Scale::Dry => [8, 4, 16],
        Scale::Laptop | Scale::Real => [32, 48, 64],
    };
    (llm::model(scale, 0.06), Work { said, sources, masks, ..Work::default() })
}

/// Lengths of the lines.
fn lengths(sources: usize) -> Vec<usize> {
    LENGTHS.into_iter().cycle().take(sources).collect()
}

/// What follows the context: query, answer but for its last token, and what is between.
fn rest(work: &Work) -> usize {
    QUERY + AROUND.1 + work.said - 1
}

/// For so many of the masks the lines that are kept, those that several masks begin with once, and for each what follows.
fn exactly(model: &Model, work: &Work, masks: usize) -> f64 {
    let Ok(drawn) = draw_masks(work.sources, work.masks, 0.5, 0) else { return f64::NAN };
    let (lengths, tower) = (lengths(work.sources), model.tower());
    let (mut begun, mut cost) = (BTreeSet::new(), tower.causal(0..AROUND.0, AROUND.0));
    for mask in drawn.rows().iter().take(masks) {
        let (mut end, mut lines) = (AROUND.0, Vec::new());
        for line in (0..work.sources).filter(|line| mask[*line]) {
            lines.push(line);
            if begun.insert(lines.clone()) {
                cost = cost + tower.causal(end..end + lengths[line], end + lengths[line]);
            }
            end += lengths[line];
        }
        cost = cost + tower.after(end, rest(work), work.said) + model.head(work.said);
    }
    cost.forward()
}

/// The whole context once, and for each mask what follows, which sees of it what is kept.
fn fast(model: &Model, work: &Work) -> f64 {
    let Ok(drawn) = draw_masks(work.sources, work.masks, 0.5, 0) else { return f64::NAN };
    let (lengths, tower) = (lengths(work.sources), model.tower());
    let all = AROUND.0 + lengths.iter().sum::<usize>();
    let kept = |mask: &Vec<bool>| {
        let lines = lengths.iter().zip(mask).filter(|(_, kept)| **kept);
        AROUND.0 + lines.map(|(length, _)| length).sum::<usize>()
    };
    let after = |mask| tower.after(kept(mask), rest(work), work.said) + model.head(work.said);
    (tower.causal(0..all, all) + drawn.rows().iter().map(after).sum::<Cost>()).forward()
}

fn work(job: &Job) -> Fallible<()> {
    let asked = Asked::load(job)?;
    let device = pellucid::device()?;
    match job.task.as_str() {
        "cite-spans" => {
            let cited = asked.cited()?;
            let words = single(&asked.said);
            serve(&device, || {
                let sums = words.iter().map(|word| Ok(cited.attribute_span(word.clone(), ALPHA)?.sum()));
                Ok((sums.sum::<Result<f64>>()?, None))
            })
        }
        "cite-fast" => serve(&device, || asked.explained(&asked.cited_by(&Passes::fast(0))?)),
        "cite-checked" => serve(&device, || asked.explained(&asked.cited_by(&Passes::fast(CHECKED))?)),
        _ => serve(&device, || asked.explained(&asked.cited()?)),
    }
}

/// Every word of an answer, which is a token.
fn single(said: &Continuation) -> Vec<Range<usize>> {
    (0..said.len()).map(|word| word..word + 1).collect()
}

/// A model, and an answer that it is asked about.
struct Asked {
    llm: CausalLm,
    sources: Sources,
    said: Continuation,
    masks: usize,
}

impl Asked {
    fn load(job: &Job) -> Fallible<Self> {
        let llm = CausalLm::load_with(&job.folder, &device::load(&job.dtype))?;
        let sources = Sources::sentences(&context(job.work.sources))?;
        let said = llm.continuation(&prompt(&llm, sources.context())?, words(job.work.said, 91))?;
        Ok(Self { llm, sources, said, masks: job.work.masks })
    }

    /// All passes, exactly.
    fn cited(&self) -> Result<ContextCite> {
        self.cited_by(&Passes::exact())
    }

    fn cited_by(&self, passes: &Passes) -> Result<ContextCite> {
        let masks = draw_masks(self.sources.len(), self.masks, 0.5, 0)?;
        let prompt = |context: &str| prompt(&self.llm, context);
        ContextCite::with_passes(&self.llm, &self.sources, &masks, &self.said, prompt, passes)
    }

    /// The sum of the whole answer's scores.
    fn explained(&self, cited: &ContextCite) -> Fallible<(f64, Option<f64>)> {
        Ok((cited.attribute_span(0..self.said.len(), ALPHA)?.sum(), None))
    }
}

/// So many lines of words.
fn context(sources: usize) -> String {
    let lengths = lengths(sources);
    let text = words(lengths.iter().sum(), 37);
    let mut words = text.split(' ');
    let lines = lengths.iter().map(|length| words.by_ref().take(*length).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

fn prompt(llm: &CausalLm, context: &str) -> Result<Text> {
    llm.chat(&[Message::user(&context_prompt(context, &words(QUERY, 53))?)])
}

/// Masks, log-odds `(m,o)`, and the scores of the whole answer and of each of its words.
type Shown = (Vec<Vec<bool>>, Vec<Vec<f64>>, Vec<Vec<f64>>);

/// How far apart the two sides are, in words.
///
/// Errors: too far.
fn compare(job: &Job) -> Fallible<String> {
    let job = Job { task: "show".into(), setting: "batch-1".into(), ..job.clone() };
    let theirs = peer(FAMILY.script, &job)?.output()?;
    let shown: Result<Shown, _> = serde_json::from_slice(&theirs.stdout);
    let (masks, log_odds, scores) = shown.map_err(|_| String::from_utf8_lossy(&theirs.stderr).into_owned())?;
    let asked = Asked::load(&job)?;
    let cited = asked.cited()?;
    let mut spans = single(&asked.said);
    spans.insert(0, 0..asked.said.len());
    let ours = spans.into_iter().map(|span| Ok(cited.surrogate(span, ALPHA)?.weights));
    let ours = ours.collect::<Result<Vec<_>>>()?;
    let (odds, score) = (farthest(&cited.log_odds()?.to_vec2()?, &log_odds), farthest(&ours, &scores));
    if masks != cited.masks().rows() || odds > FAR.0 || score > FAR.1 {
        return Err(
            format!("the two sides do not do the same: log-odds differ by {odds:.1e}, scores by {score:.1e}").into()
        );
    }
    Ok(format!(
        "{} tokens after the prompt's {}, {} sources, {} masks; log-odds differ by at most {odds:.1e}, scores by {score:.1e}, \
         the largest of which is {:.2}\n{}",
        asked.said.len(),
        asked.said.prompt().len(),
        asked.sources.len(),
        masks.len(),
        scores.iter().flatten().fold(0.0, |most: f64, score| most.max(score.abs())),
        faithful(&asked, &cited)?,
    ))
}

/// How far the fast passes agree with the exact ones, in words.
fn faithful(asked: &Asked, cited: &ContextCite) -> Result<String> {
    let (fast, whole) = (asked.cited_by(&Passes::fast(CHECKED))?, 0..asked.said.len());
    let far = rank_correlation(&fast.outputs(whole.clone())?, &cited.outputs(whole.clone())?)?;
    Ok(format!(
        "fast: rank correlation with the exact log-odds {far:.3}, on the {CHECKED} masks asked both ways {:.3}; of the scores {:.3}",
        fast.agreement(whole.clone())?.unwrap_or(f64::NAN),
        fast.attribute_span(whole.clone(), ALPHA)?.agreement(&cited.attribute_span(whole, ALPHA)?)?,
    ))
}

/// The largest difference; infinite between tables of different shapes, or where one is no number.
fn farthest(ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> f64 {
    if !ours.iter().map(Vec::len).eq(theirs.iter().map(Vec::len)) {
        return f64::INFINITY;
    }
    let pairs = ours.iter().flatten().zip(theirs.iter().flatten());
    pairs.map(|(a, b)| if a.is_nan() || b.is_nan() { f64::INFINITY } else { (a - b).abs() }).fold(0.0, f64::max)
}
