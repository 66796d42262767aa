//! Reads a folder of reference cases, runs those the crate can, and says how far it is from each.

mod attention;
mod bert;
mod captum;
mod case;
mod causal;
mod check;
mod clip;
mod context_cite;
mod context_cite_family;
mod continuation;
mod files;
mod job;
mod kinds;
mod last_logit;
mod libra;
mod peer;
pub mod pending;
mod qwen_vl;
mod report;
mod rollout;
mod rollout_family;
mod sentence;
mod splice;
mod suite;
mod tokens;
mod units;
mod value;
mod vision;
mod vision_language;

use std::path::Path;

use pending::Pending;
use report::Report;

/// What can go wrong in a case, in words.
type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Runs every case of a folder, and prints a line for each.
pub fn run(folder: &Path, pending: &'static [Pending]) -> Report {
    println!(); // the test harness may have begun a line
    let mut report = Report::default();
    for job in files::jobs(folder) {
        match pending.iter().find(|row| row.covers(&job)) {
            Some(row) => report.pending(row),
            None => report.case(&job),
        }
    }
    report.close();
    report
}
