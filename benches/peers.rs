//! Every explanation against the fastest other program that makes it, in one run and one table.
//!
//! ```text
//! benches/peers/install.sh
//! cargo bench                                  # all rows
//! cargo bench -- bert rollout-1                # some: by their own names or their family's
//! cargo bench -- growth                        # how our cost grows
//! cargo bench -- --scale dry                   # tiny models, one round: whether all of it works
//! ```
//!
//! What runs against what stands in `race/`, a file for each family. All racers of a race work in turn, every round each once; the figures are
//! medians. The run stops where the two sides do not do the same, and what it has found lies in `target/bench`.

mod common;
mod growth;
mod race;
mod report;

use common::Fallible;
use common::plan::{Plan, Scale};
use common::racer::{Job, Racer, make, ourselves, peer, race, started_for};
use common::watch::Watch;
use race::{FAMILIES, Family, Race, Task};
use report::{Figures, Line, Report, floor};

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(job) = started_for(&arguments)? {
        return race::serve(&job);
    }
    let plan = Plan::asked(&arguments)?;
    match plan.after("growth") {
        Some(plan) => growth::run(&plan),
        None => against_peers(&plan),
    }
}

/// The rows that were asked for, and the table.
fn against_peers(plan: &Plan) -> Fallible<()> {
    plan.knows("row", &names())?;
    rayon::ThreadPoolBuilder::new().num_threads(plan.threads).build_global()?;
    let (mut report, watch) = (Report::new(plan)?, Watch::start()?);
    for family in FAMILIES {
        run_family(family, plan, watch.as_ref(), &mut report)?;
    }
    println!("\n{}", report.text());
    if report.is_whole() { Ok(()) } else { Err("some rows were not measured: see above".into()) }
}

/// What the rows and the families are called.
fn names() -> Vec<&'static str> {
    let rows = |family: &&'static Family| family.races.iter().flat_map(|race| race.ours).map(|task| task.row);
    let mut names: Vec<&str> = FAMILIES.iter().flat_map(|family| rows(family).chain([family.name])).collect();
    names.dedup();
    names
}

/// The races of a family that were asked for, after its comparison.
fn run_family(family: &Family, plan: &Plan, watch: Option<&Watch>, report: &mut Report) -> Fallible<()> {
    let wanted = |task: &&'static Task| plan.wants(&[task.row, family.name]);
    let races = family.races.iter().map(|race| (race, race.ours.iter().filter(wanted).collect::<Vec<_>>()));
    let races: Vec<(&Race, Vec<&Task>)> = races.filter(|(_, tasks)| !tasks.is_empty()).collect();
    if races.is_empty() {
        return Ok(());
    }
    if let Some(why) = family.absent.and_then(|absent| absent()) {
        return report.leave_out(family.name, &why);
    }
    report.raise(floor::peak(plan)?);
    let job = family.job(plan);
    make(family.maker, &job)?;
    if let Some(compare) = family.compare {
        println!("\n{}: {}", family.name, compare(&job)?);
    }
    let watch = watch.filter(|_| family.on_device);
    for (race, tasks) in races {
        println!();
        for line in run_race(family, race, &tasks, plan, &job, watch)? {
            report.add(line)?;
        }
    }
    Ok(())
}

/// One race: a line for each of our tasks.
fn run_race(
    family: &Family,
    race: &Race,
    tasks: &[&Task],
    plan: &Plan,
    job: &Job,
    watch: Option<&Watch>,
) -> Fallible<Vec<Line>> {
    let mut racers = entrants(family, race, tasks, plan, job)?;
    self::race(&mut racers, if plan.scale == Scale::Dry { 1 } else { race.rounds }, watch)?;
    let (ours, theirs) = racers.split_at(tasks.len());
    let loose = if plan.dtype == "bf16" { 0.1 } else { 0.0 };
    let line = |(task, ours): (&&Task, &Racer)| {
        let peers = theirs.iter().filter(|racer| racer.job.task == task.against).map(Figures::of).collect();
        let operations = task.operations.map(|operations| operations(&job.model, &job.work));
        Line::of(task, Figures::of(ours), peers, operations, loose)
    };
    tasks.iter().zip(ours).map(line).collect()
}

/// Our tasks, and the peers that they run against; in a dry run each in one setting.
fn entrants(family: &Family, race: &Race, tasks: &[&Task], plan: &Plan, job: &Job) -> Fallible<Vec<Racer>> {
    let mut racers = Vec::new();
    for task in tasks {
        let (here, there) = (task.row, task.against);
        let name = format!("pellucid, {here}");
        racers.push(match family.work {
            Some(_) => start(&name, job, here, "", ourselves)?,
            None => start(&name, job, there, "pellucid", |job| peer(family.script, job))?,
        });
    }
    let wanted = race.peers.iter().filter(|(task, _)| tasks.iter().any(|ours| ours.against == *task));
    let most = if plan.scale == Scale::Dry { 1 } else { usize::MAX };
    for (task, settings) in wanted {
        for setting in settings.iter().take(most) {
            let name = format!("{} {setting}", race.peer);
            racers.push(start(name.trim(), job, task, setting, |job| peer(family.script, job))?);
        }
    }
    Ok(racers)
}

fn start(
    name: &str,
    job: &Job,
    task: &str,
    setting: &str,
    command: impl Fn(&Job) -> Fallible<std::process::Command>,
) -> Fallible<Racer> {
    let job = Job { task: task.into(), setting: setting.into(), ..job.clone() };
    Racer::start(name, &job, command(&job)?)
}
