//! How our cost grows with the work, `cargo bench -- growth`: seconds and peak memory over steps, tokens, layers, output
//! tokens and masks.
//!
//! Each series is fitted by a power of what grows, seconds ∝ nᵖ, on logarithmic axes; p stands in the legend. The points of a series
//! work in turn, every round each once; a point is a median. The figures are `benches/growth_*.svg`, of another scale
//! or device, or on other than all cores, `target/bench/growth_*.svg`.

use std::path::{Path, PathBuf};

use pellucid::prelude::{Chart, Series, Show};
use serde_json::{Map, Value, json};

use crate::common::Fallible;
use crate::common::plan::{Plan, Scale, home};
use crate::common::racer::{Job, Racer, make, ourselves, race};
use crate::common::shape::{Model, Work};
use crate::common::watch::Watch;
use crate::race::Family;
use crate::report::folder;

/// One figure: what grows, and what is asked meanwhile.
struct Growth {
    name: &'static str,
    axis: &'static str,
    curves: &'static [Curve],
    /// Whether memory has a figure too.
    memory: bool,
}

/// One of our tasks, over the numbers that grow.
struct Curve {
    name: &'static str,
    family: &'static str,
    task: &'static str,
    set: fn(&mut Model, &mut Work, usize),
    values: &'static [usize],
}

const STEPS: &[usize] = &[8, 16, 32, 64];
const MASKS: &[usize] = STEPS;
const OUTPUTS: &[usize] = &[2, 4, 8, 16];
const TOKENS: &[usize] = &[32, 64, 128, 256, 512];
const LAYERS: &[usize] = &[2, 4, 8, 16];

const GROWTHS: [Growth; 5] = [
    Growth {
        name: "steps",
        axis: "steps of Integrated Gradients",
        curves: &[
            Curve { name: "BERT", family: "bert", task: "bert", set: steps, values: STEPS },
            Curve { name: "LLM, sequence", family: "llm", task: "sequence", set: steps, values: STEPS },
            Curve { name: "ViT, pixels", family: "vit", task: "pixels", set: steps, values: STEPS },
            Curve { name: "VLM, pixels", family: "vlm", task: "vlm", set: steps, values: STEPS },
        ],
        memory: true,
    },
    Growth {
        name: "tokens",
        axis: "tokens of the prompt",
        curves: &[
            Curve { name: "IG on BERT", family: "bert", task: "bert", set: tokens, values: TOKENS },
            Curve { name: "IG on an LLM", family: "llm", task: "sequence", set: tokens, values: TOKENS },
            Curve { name: "FullGrad+", family: "fullgrad", task: "exact", set: tokens, values: TOKENS },
            Curve { name: "ablation", family: "llm", task: "ablation", set: tokens, values: &[16, 32, 64, 128] },
        ],
        memory: true,
    },
    Growth {
        name: "layers",
        axis: "layers",
        curves: &[
            Curve { name: "IG on BERT", family: "bert", task: "bert", set: layers, values: LAYERS },
            Curve { name: "IG on an LLM", family: "llm", task: "sequence", set: layers, values: LAYERS },
            Curve { name: "FullGrad+", family: "fullgrad", task: "exact", set: layers, values: LAYERS },
            Curve { name: "rollout", family: "vit", task: "rollout-1", set: layers, values: LAYERS },
        ],
        memory: true,
    },
    Growth {
        name: "outputs",
        axis: "tokens of the continuation",
        curves: &[
            Curve { name: "IG, matrix", family: "llm", task: "matrix", set: said, values: OUTPUTS },
            Curve { name: "IG, sequence", family: "llm", task: "sequence", set: said, values: OUTPUTS },
            Curve { name: "ablation", family: "llm", task: "ablation", set: said, values: OUTPUTS },
        ],
        memory: true,
    },
    Growth {
        name: "masks",
        axis: "masks of ContextCite",
        curves: &[
            Curve { name: "exact", family: "context-cite", task: "cite", set: masks, values: MASKS },
            Curve { name: "fast", family: "context-cite", task: "cite-fast", set: masks, values: MASKS },
        ],
        memory: false,
    },
];

/// Steps where something else grows.
const FEW: usize = 8;
const ROUNDS: usize = 3;

fn steps(_: &mut Model, work: &mut Work, n: usize) {
    work.steps = n;
}

fn tokens(_: &mut Model, work: &mut Work, n: usize) {
    (work.tokens, work.steps) = (n, FEW);
}

fn layers(model: &mut Model, work: &mut Work, n: usize) {
    (model.layers, work.steps) = (n, FEW);
}

fn said(_: &mut Model, work: &mut Work, n: usize) {
    (work.said, work.steps) = (n, FEW);
}

fn masks(_: &mut Model, work: &mut Work, n: usize) {
    work.masks = n;
}

/// What a point took: how much was asked, median seconds, peak MiB.
type Point = (usize, f64, Option<f64>);

/// The figures that were asked for; all, if none. The numbers of those that were not stay as they are.
pub fn run(plan: &Plan) -> Fallible<()> {
    plan.knows("figure", &GROWTHS.each_ref().map(|growth| growth.name))?;
    let (watch, path) = (Watch::start()?, folder().join(format!("growth-{}.json", plan.label()?)));
    std::fs::create_dir_all(folder())?;
    let mut found = known(&path)?;
    for growth in GROWTHS.iter().filter(|growth| plan.wants(&[growth.name])) {
        found.insert(growth.name.into(), grow(growth, plan, watch.as_ref())?);
        std::fs::write(&path, format!("{:#}\n", Value::Object(found.clone())))?;
    }
    Ok(())
}

/// What earlier runs have written to a file; nothing if there is none.
///
/// Errors: it holds something else.
fn known(path: &Path) -> Fallible<Map<String, Value>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()).into()),
        Err(_) => Ok(Map::new()),
    }
}

/// Measures and draws a figure; its numbers, as they are written.
fn grow(growth: &Growth, plan: &Plan, watch: Option<&Watch>) -> Fallible<Value> {
    let measured = growth.curves.iter().map(|curve| Ok((curve.name, measure(curve, plan, watch)?)));
    let measured: Vec<(&str, Vec<Point>)> = measured.collect::<Fallible<_>>()?;
    draw(growth, plan, "", "seconds", &measured, |&(_, seconds, _)| Some(seconds))?;
    if growth.memory {
        draw(growth, plan, "_memory", "peak memory, MiB", &measured, |&(_, _, peak)| peak)?;
    }
    let point = |&(n, seconds, peak): &Point| json!({"n": n, "seconds": seconds, "peak MiB": peak});
    let curve = |(name, points): &(&str, Vec<Point>)| {
        let power = power(&points.iter().map(|&(n, seconds, _)| (n as f64, seconds)).collect::<Vec<_>>());
        json!({"name": name, "power": power, "points": points.iter().map(point).collect::<Vec<_>>()})
    };
    Ok(measured.iter().map(curve).collect())
}

/// The points of a curve, in turn; in a dry run the first two, once.
fn measure(curve: &Curve, plan: &Plan, watch: Option<&Watch>) -> Fallible<Vec<Point>> {
    let dry = plan.scale == Scale::Dry;
    let values = &curve.values[..if dry { 2 } else { curve.values.len() }];
    let start = |n: &usize| racer(curve, plan, *n);
    let mut racers = values.iter().map(start).collect::<Fallible<Vec<_>>>()?;
    race(&mut racers, if dry { 1 } else { ROUNDS }, watch)?;
    let point = |(n, racer): (&usize, &Racer)| (*n, racer.seconds()[1], racer.peak_mib());
    Ok(values.iter().zip(&racers).map(point).collect())
}

fn racer(curve: &Curve, plan: &Plan, n: usize) -> Fallible<Racer> {
    let family = Family::named(curve.family)?;
    let (usual, mut work) = (family.shape)(plan.scale);
    let mut model = usual.clone();
    (curve.set)(&mut model, &mut work, n);
    let scale = plan.scale_name();
    let label = if model == usual { scale.to_owned() } else { format!("{scale}-{n}") };
    let job = Job { task: curve.task.into(), ..family.job_on(plan, &label, model, work) };
    make(family.maker, &job)?;
    Racer::start(&format!("{}, {n}", curve.name), &job, ourselves(&job)?)
}

/// Draws one number of every point, and prints it. Seconds go through decades and have logarithmic axes; memory does not.
fn draw(
    growth: &Growth,
    plan: &Plan,
    kind: &str,
    y: &str,
    measured: &[(&str, Vec<Point>)],
    of: impl Fn(&Point) -> Option<f64>,
) -> Fallible<()> {
    if !measured.iter().flat_map(|(_, points)| points).any(|point| of(point).is_some()) {
        println!("{y}: unknown on this device\n");
        return Ok(());
    }
    let series = measured.iter().map(|(name, points)| {
        let points: Vec<(f64, f64)> = points.iter().filter_map(|point| Some((point.0 as f64, of(point)?))).collect();
        let power = (100.0 * power(&points)).round() / 100.0 + 0.0; // no −0
        Series { name: format!("{name}: p = {power:.2}"), points }
    });
    let title = format!("{} over {}", y.split(',').next().unwrap_or(y), growth.axis);
    let chart =
        Chart::curves(&title, growth.axis, y, series.collect()).note(&format!("{y} ∝ nᵖ, fitted on logarithmic axes"));
    let chart = if kind.is_empty() { chart.log_log() } else { chart };
    println!("{}\n", chart.text());
    chart.save(figures(plan)?.join(format!("growth_{}{kind}.svg", growth.name)))?;
    Ok(())
}

/// Where figures are written: those of the usual plan are the published ones.
fn figures(plan: &Plan) -> Fallible<PathBuf> {
    Ok(if plan.label()? == "laptop" { home().join("benches") } else { folder() })
}

/// The slope of the straight line that fits log y over log x best, by least squares.
fn power(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let (x, y) = logs.iter().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x / count, sy + y / count));
    let covariance: f64 = logs.iter().map(|(a, b)| (a - x) * (b - y)).sum();
    covariance / logs.iter().map(|(a, _)| (a - x).powi(2)).sum::<f64>()
}
