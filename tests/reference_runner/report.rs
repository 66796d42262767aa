//! What is printed, and the counts.

use std::collections::BTreeSet;

use super::Fallible;
use super::check::Check;
use super::job::Job;
use super::pending::Pending;

/// How many cases there were of each fate.
#[derive(Default)]
pub struct Report {
    ok: usize,
    pub failed: usize,
    kinds: BTreeSet<String>,
    pending: Vec<(&'static Pending, usize)>,
}

impl Report {
    /// Runs a case and prints its line.
    pub fn case(&mut self, job: &Job) {
        self.kinds.insert(job.kind.clone());
        match worst(job.run()) {
            Ok(check) if check.ok() => {
                self.ok += 1;
                line(job, &check, "ok");
            }
            Ok(check) => self.fail(job, &check, &check.field),
            Err(error) => self.fail(job, &unknowable(), &error.to_string()),
        }
    }

    fn fail(&mut self, job: &Job, check: &Check, why: &str) {
        self.failed += 1;
        line(job, check, "FAIL");
        println!("    {why}");
    }

    /// Counts a case the crate cannot run yet.
    pub fn pending(&mut self, row: &'static Pending) {
        match self.pending.iter_mut().find(|(known, _)| *known == row) {
            Some((_, count)) => *count += 1,
            None => self.pending.push((row, 1)),
        }
    }

    /// Prints what is pending, and the counts.
    pub fn close(&self) {
        for (Pending(kind, _, topic), count) in &self.pending {
            println!("reference {kind} pending ({count} cases): {topic}");
        }
        let Self { ok, failed, kinds, .. } = self;
        println!("reference: {ok} ok, {failed} failed, {} kinds, {} pending", kinds.len(), self.waiting());
    }

    /// How many cases there are, pending ones included.
    pub fn total(&self) -> usize {
        self.ok + self.failed + self.waiting()
    }

    fn waiting(&self) -> usize {
        self.pending.iter().map(|(_, count)| count).sum()
    }
}

fn worst(checks: Fallible<Vec<Check>>) -> Fallible<Check> {
    let worst = checks?.into_iter().max_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    worst.ok_or_else(|| "the case expects nothing".into())
}

fn unknowable() -> Check {
    Check { field: String::new(), err: f64::INFINITY, tol: 0.0 }
}

fn line(job: &Job, check: &Check, fate: &str) {
    println!("reference {} {} err={:.2e} tol={:.2e} {fate}", job.kind, job.name, check.err, check.tol);
}
