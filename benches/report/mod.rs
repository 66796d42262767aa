//! What a run has found: a table in the terminal, the same in Markdown, and all of its numbers in JSON.

pub mod floor;
mod machine;
mod table;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use crate::common::Fallible;
use crate::common::plan::{Plan, target};
use crate::common::racer::Racer;
use crate::race::{Same, Task};

/// What is known of a racer: least, median and greatest seconds, and what tells whether it did the same as another.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub name: String,
    pub seconds: [f64; 3],
    /// The process's peak; on a GPU, what it held of the device's memory. `None` where nobody knows.
    pub peak_mib: Option<f64>,
    pub sum: f64,
    pub delta: Option<f64>,
}

impl Figures {
    pub fn of(racer: &Racer) -> Self {
        let (seconds, peak_mib) = (racer.seconds(), racer.peak_mib());
        Self { name: racer.name.clone(), seconds, peak_mib, sum: racer.runs[0].sum, delta: racer.runs[0].delta }
    }

    pub fn median(&self) -> f64 {
        self.seconds[1]
    }
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Line {
    pub row: &'static str,
    pub what: &'static str,
    pub ours: Figures,
    /// At least one.
    pub peers: Vec<Figures>,
    /// Multiply–adds that the arithmetic needs.
    pub operations: Option<f64>,
    /// What makes the two answers differ, where they should.
    pub another: Option<&'static str>,
}

impl Line {
    /// A task and what its racers did.
    ///
    /// Errors: the two sides did not do the same.
    pub fn of(task: &Task, ours: Figures, peers: Vec<Figures>, operations: Option<f64>, loose: f64) -> Fallible<Self> {
        let another = match task.same {
            Same::Another(question) => Some(question),
            Same::Within(share) => {
                peers.iter().try_for_each(|peer| agree(&ours, peer, share.max(loose)))?;
                None
            }
        };
        Ok(Self { row: task.row, what: task.what, ours, peers, operations, another })
    }

    /// The peer that took the least time.
    pub fn fastest(&self) -> &Figures {
        self.least(Figures::median)
    }

    /// The peer that took the least memory.
    pub fn leanest(&self) -> &Figures {
        self.least(|peer| peer.peak_mib.unwrap_or(f64::INFINITY))
    }

    fn least(&self, of: impl Fn(&Figures) -> f64) -> &Figures {
        let least = self.peers.iter().min_by(|a, b| of(a).total_cmp(&of(b)));
        least.unwrap_or(&self.ours)
    }

    /// How many times as fast as the fastest peer we are.
    pub fn speed(&self) -> f64 {
        self.fastest().median() / self.ours.median()
    }

    /// How much of the leanest peer's memory we take.
    pub fn memory(&self) -> Option<f64> {
        Some(self.ours.peak_mib? / self.leanest().peak_mib?)
    }

    /// The seconds that the matrix products alone take at this machine's peak, multiply–adds a second.
    pub fn floor(&self, peak: f64) -> Option<f64> {
        self.operations.map(|operations| operations / peak)
    }

    fn json(&self, peak: f64) -> Value {
        let floor = self.floor(peak);
        json!({
            "row": self.row, "what": self.what, "pellucid": self.ours, "peers": self.peers, "fastest peer": self.fastest().name,
            "leanest peer": self.leanest().name, "times as fast": self.speed(), "share of the memory": self.memory(),
            "another question": self.another, "multiply-adds": self.operations, "floor seconds": floor,
            "share of the floor reached": floor.map(|floor| floor / self.ours.median()),
            "share of the floor that the fastest peer reaches": floor.map(|floor| floor / self.fastest().median()),
        })
    }
}

/// That Σ scores and delta of two racers are apart by no more than this share of Σ scores.
///
/// Errors: they are.
fn agree(ours: &Figures, theirs: &Figures, share: f64) -> Fallible<()> {
    const ROUNDING: f64 = 1e-5;
    let far = share * ours.sum.abs().max(theirs.sum.abs()) + ROUNDING;
    let near = |a: f64, b: f64| (a - b).abs() <= far;
    let deltas = ours.delta.zip(theirs.delta);
    match near(ours.sum, theirs.sum) && deltas.is_none_or(|(a, b)| near(a, b)) {
        true => Ok(()),
        false => Err(format!(
            "{} and {} do not do the same: Σ {:+.6} and {:+.6}, delta {:?} and {:?}, which may be {far:.1e} apart",
            ours.name, theirs.name, ours.sum, theirs.sum, ours.delta, theirs.delta
        )
        .into()),
    }
}

/// All that a run has found so far.
pub struct Report {
    plan: Plan,
    machine: Vec<(String, String)>,
    /// Multiply–adds a second, the best so far.
    peak: f64,
    lines: Vec<Line>,
    /// Rows that were not measured, and why.
    missing: Vec<(String, String)>,
}

impl Report {
    /// Errors: no peers.
    pub fn new(plan: &Plan) -> Fallible<Self> {
        Ok(Self {
            plan: plan.clone(),
            machine: machine::describe()?,
            peak: 0.0,
            lines: Vec::new(),
            missing: Vec::new(),
        })
    }

    /// A product's peak was measured again, before each family: whatever else the machine does now and then, the best counts.
    pub fn raise(&mut self, peak: f64) {
        self.peak = self.peak.max(peak);
    }

    /// Takes a row in, says it, and writes all there is.
    pub fn add(&mut self, line: Line) -> Fallible<()> {
        println!("{}", said(&line, self.peak));
        self.lines.push(line);
        self.write()
    }

    /// Notes, loudly, that rows are not measured.
    pub fn leave_out(&mut self, rows: &str, why: &str) -> Fallible<()> {
        eprintln!("\n*** NOT MEASURED: {rows}: {why}\n");
        self.missing.push((rows.into(), why.into()));
        self.write()
    }

    /// Whether every row was measured.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// The table, for a terminal.
    pub fn text(&self) -> String {
        let folder = folder();
        format!("{}\n{}\n\nwritten to {}", self.head(), table::text(&self.lines, self.peak), folder.display())
    }

    fn head(&self) -> String {
        let machine: Vec<String> = self.machine.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let peak = 2e-9 * self.peak;
        let Plan { dtype, threads, .. } = &self.plan;
        format!(
            "Scale {}, {dtype}, {threads} threads for each racer; {}.\nPeak of a matrix product: {peak:.1} GFLOP/s.",
            self.plan.scale_name(),
            machine.join(", ")
        )
    }

    fn markdown(&self) -> String {
        let missing = self.missing.iter().map(|(rows, why)| format!("\nNot measured: {rows}: {why}.\n"));
        format!("{}\n\n{}{}", self.head(), table::markdown(&self.lines, self.peak), missing.collect::<String>())
    }

    fn json(&self) -> Value {
        let machine: serde_json::Map<_, _> =
            self.machine.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "scale": self.plan.scale_name(), "dtype": self.plan.dtype, "threads": self.plan.threads, "machine": machine,
            "peak multiply-adds per second": self.peak, "rows": self.lines.iter().map(|line| line.json(self.peak)).collect::<Vec<_>>(),
            "not measured": self.missing,
        })
    }

    fn write(&self) -> Fallible<()> {
        let rows: String = self.plan.names.iter().map(|row| format!("_{row}")).collect();
        let (folder, name) = (folder(), format!("peers-{}{rows}", self.plan.label()?));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{name}.md")), self.markdown())?;
        Ok(std::fs::write(folder.join(format!("{name}.json")), format!("{:#}\n", self.json()))?)
    }
}

/// Where results are written.
pub fn folder() -> PathBuf {
    target().join("bench")
}

/// A row with all its racers.
fn said(line: &Line, peak: f64) -> String {
    let figures = |figures: &Figures| {
        let Figures { name, seconds: [least, median, greatest], peak_mib, sum, delta } = figures;
        let peak = peak_mib.map_or("memory unknown".into(), |peak| format!("peak {peak:.0} MiB"));
        let delta = delta.map_or(String::new(), |delta| format!(", delta {delta:+.1e}"));
        format!("  {name:<28} {median:.4} s ({least:.4}–{greatest:.4}), {peak}, Σ {sum:+.6}{delta}\n")
    };
    let racers: String = std::iter::once(&line.ours).chain(&line.peers).map(figures).collect();
    let another = line.another.map_or(String::new(), |question| format!(" (another question: {question})"));
    let floor = line.floor(peak).map_or(String::new(), |floor| format!(", floor {floor:.4} s"));
    let memory = line.memory().map_or("memory unknown".into(), |share| format!("{share:.2} × the memory"));
    format!("{}: {}{another}\n{racers}  {} × as fast, {memory}{floor}", line.row, line.what, table::ratio(line.speed()))
}
