//! Processes that load a model, and work once for every line they are sent.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pellucid::prelude::Device;
use serde::{Deserialize, Serialize};

use super::plan::home;
use super::shape::{Model, Work};
use super::watch::Watch;
use super::{Fallible, device};

/// What a process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub family: String,
    pub task: String,
    /// Which of its ways the peer takes; ours has none.
    pub setting: String,
    pub folder: String,
    pub model: Model,
    pub work: Work,
    pub threads: usize,
    pub dtype: String,
}

/// One timed piece of work: seconds, the process's peak memory, and two numbers that tell whether both sides did the same. Delta is
/// missing where a peer tells none.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub seconds: f64,
    pub peak_mib: Option<f64>,
    pub sum: f64,
    pub delta: Option<f64>,
}

/// A process that works on demand: a line comes in, `[seconds, peak, sum, delta]` goes out.
pub struct Racer {
    pub name: String,
    pub job: Job,
    pub runs: Vec<Run>,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Racer {
    /// Starts a process that is ready for this job.
    pub fn start(name: &str, job: &Job, mut command: Command) -> Fallible<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("a racer without a standard output")?);
        Ok(Self { name: name.into(), job: job.clone(), runs: Vec::new(), orders: child.stdin.take(), answers, child })
    }

    /// Least, median and greatest seconds.
    pub fn seconds(&self) -> [f64; 3] {
        let mut seconds: Vec<f64> = self.runs.iter().map(|run| run.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        [seconds[0], seconds[seconds.len() / 2], seconds[seconds.len() - 1]]
    }

    /// The most memory that a run took; `None` where nobody knows.
    pub fn peak_mib(&self) -> Option<f64> {
        self.runs.iter().filter_map(|run| run.peak_mib).reduce(f64::max)
    }

    /// Has it work once. On a GPU the memory is what the watch has seen.
    fn run(&mut self, watch: Option<&Watch>) -> Fallible<Run> {
        let mut line = String::new();
        let orders = self.orders.as_mut().ok_or("a racer without a standard input")?;
        writeln!(orders).map_err(|error| format!("{} has ended: {error}", self.name))?;
        self.answers.read_line(&mut line)?;
        let answer: Result<(f64, Option<f64>, f64, Option<f64>), _> = serde_json::from_str(&line);
        let (seconds, own, sum, delta) = answer.map_err(|_| format!("{} did not work: {line}", self.name))?;
        let peak_mib = watch.map_or(own, |watch| watch.most(self.child.id()));
        Ok(Run { seconds, peak_mib, sum, delta })
    }
}

impl Drop for Racer {
    /// A process whose input ends puts away what it has started, and ends.
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// All racers in turn, `rounds` times after one that warms up.
pub fn race(racers: &mut [Racer], rounds: usize, watch: Option<&Watch>) -> Fallible<()> {
    for round in 0..=rounds {
        for racer in racers.iter_mut() {
            let run = racer.run(watch)?;
            if round > 0 {
                racer.runs.push(run);
            }
        }
    }
    Ok(())
}

/// Answers every line of standard input with a run of this work: the sum of the scores, and delta.
pub fn serve(device: &Device, mut work: impl FnMut() -> Fallible<(f64, Option<f64>)>) -> Fallible<()> {
    for line in std::io::stdin().lines() {
        line?;
        device.synchronize()?;
        let start = std::time::Instant::now();
        let (sum, delta) = work()?;
        device.synchronize()?;
        println!("{}", serde_json::json!([start.elapsed().as_secs_f64(), peak_mib(), sum, delta]));
    }
    Ok(())
}

/// This process's peak memory, as the system counts it; `None` where it tells nobody.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?;
    Some(kib.parse::<f64>().ok()? / 1024.0)
}

/// A command that runs this very program at a job.
pub fn ourselves(job: &Job) -> Fallible<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg(serde_json::to_string(job)?);
    Ok(command)
}

/// The job that this very program was started for by [`ourselves`], if it was.
pub fn started_for(arguments: &[String]) -> Fallible<Option<Job>> {
    match arguments {
        [serve, job] if serve == "serve" => Ok(Some(serde_json::from_str(job)?)),
        _ => Ok(None),
    }
}

/// A command that runs a script of `benches/peers` at a job.
pub fn peer(script: &str, job: &Job) -> Fallible<Command> {
    let mut command = python(script)?;
    let threads = job.threads.to_string();
    command.args(["--folder", &job.folder, "--task", &job.task, "--setting", &job.setting, "--threads", &threads]);
    command.args(["--device", &device::name(), "--dtype", &job.dtype]).arg("--lab").arg(home().join(".lab"));
    command.arg("--model").arg(serde_json::to_string(&job.model)?).arg("--work").arg(serde_json::to_string(&job.work)?);
    Ok(command)
}

/// A command that runs a script of `benches/peers` with the peers' Python.
pub fn python(script: &str) -> Fallible<Command> {
    let named = std::env::var_os("PELLUCID_PEERS").map(PathBuf::from);
    let python = named.unwrap_or_else(|| home().join("target/peers")).join("bin/python");
    if !python.exists() {
        return Err(format!("no {}: benches/peers/install.sh makes it", python.display()).into());
    }
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(home().join("benches/peers").join(script));
    Ok(command)
}

/// Has a script make the model of a job, unless its folder holds it already. The stamp that says what it holds is written last.
pub fn make(script: &str, job: &Job) -> Fallible<()> {
    let (folder, wanted) = (PathBuf::from(&job.folder), serde_json::to_string(&job.model)?);
    let stamp = folder.join("made.json");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    std::fs::create_dir_all(&folder)?;
    let job = Job { task: "make".into(), ..job.clone() };
    match peer(script, &job)?.output()? {
        output if output.status.success() => Ok(std::fs::write(stamp, wanted)?),
        output => Err(format!("{script} made no model:\n{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}
