//! Two sides of a race: processes that load a model, and work once for every line they are sent.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What can go wrong, in words.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// One timed piece of work: seconds, the process's peak memory, and two numbers that tell whether both sides did the same.
#[derive(Clone, Copy)]
pub struct Run {
    pub seconds: f64,
    pub peak_mib: f64,
    pub sum: f64,
    pub delta: f64,
}

/// A process that works on demand: a line comes in, `[seconds, peak, sum, delta]` goes out.
pub struct Racer {
    pub name: String,
    pub runs: Vec<Run>,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Racer {
    /// How long the runs took, the shortest first.
    fn seconds(&self) -> Vec<f64> {
        let mut seconds: Vec<f64> = self.runs.iter().map(|run| run.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    /// The median of that.
    pub fn median(&self) -> f64 {
        self.seconds()[self.runs.len() / 2]
    }

    /// Starts a process.
    pub fn start(name: &str, command: &mut Command) -> Fallible<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().ok_or("a racer without a standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("a racer without a standard output")?);
        Ok(Self { name: name.into(), runs: Vec::new(), orders, answers, child })
    }

    /// Has it work once.
    pub fn run(&mut self) -> Fallible<Run> {
        let mut line = String::new();
        writeln!(self.orders)?;
        self.answers.read_line(&mut line)?;
        let numbers: Result<[f64; 4], _> = serde_json::from_str(&line);
        let [seconds, peak_mib, sum, delta] = numbers.map_err(|e| format!("{}: {e}: {line}", self.name))?;
        Ok(Run { seconds, peak_mib, sum, delta })
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// All racers in turn, `rounds` times after one that warms up.
pub fn race(racers: &mut [Racer], rounds: usize) -> Fallible<()> {
    for round in 0..=rounds {
        for racer in racers.iter_mut() {
            let run = racer.run()?;
            if round > 0 {
                racer.runs.push(run);
            }
        }
    }
    Ok(())
}

/// A line for each racer, and how those that are ours compare with the fastest of the others.
pub fn report(racers: &[Racer]) {
    let figures: Vec<(&str, f64, f64)> = racers.iter().map(line).collect();
    let (ours, theirs): (Vec<_>, Vec<_>) = figures.into_iter().partition(|(name, ..)| name.starts_with("pellucid"));
    let Some((best, fastest, least)) = theirs.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)) else { return };
    for (name, seconds, memory) in ours {
        println!("{name}: {:.2} × as fast as {best}, {:.2} × the memory", fastest / seconds, memory / least);
    }
}

/// (name, median seconds, peak memory), printed.
fn line(racer: &Racer) -> (&str, f64, f64) {
    let seconds = racer.seconds();
    let (low, middle, high) = (seconds[0], racer.median(), seconds[seconds.len() - 1]);
    let peak = racer.runs.iter().map(|run| run.peak_mib).fold(0.0, f64::max);
    let Run { sum, delta, .. } = racer.runs[0];
    println!(
        "{:<28} {middle:.3} s ({low:.3}–{high:.3}), peak {peak:.0} MiB, Σ {sum:+.6}, delta {delta:+.1e}",
        racer.name
    );
    (&racer.name, middle, peak)
}

/// Answers every line of standard input with a run of this work.
pub fn serve(mut work: impl FnMut() -> Fallible<(f64, f64)>) -> Fallible<()> {
    for line in std::io::stdin().lines() {
        line?;
        let start = std::time::Instant::now();
        let (sum, delta) = work()?;
        println!("{}", serde_json::json!([start.elapsed().as_secs_f64(), peak_mib(), sum, delta]));
    }
    Ok(())
}

/// This process's peak memory, as the kernel counts it.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
}

/// A command that runs a script of `benches/peers` with the peers' Python.
pub fn peer(script: &str, arguments: &[&str]) -> Fallible<Command> {
    let named = std::env::var_os("PELLUCID_PEERS").map(PathBuf::from);
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = named.unwrap_or_else(|| home.join("target/peers")).join("bin/python");
    if !python.exists() {
        return Err("no Python with the peers: see the first lines of this bench's source".into());
    }
    let mut command = Command::new(python);
    command.arg(home.join("benches/peers").join(script)).args(arguments);
    Ok(command)
}

/// A command that runs this very program with arguments of ours.
pub fn ourselves(arguments: &[&str]) -> Fallible<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    Ok(command)
}
