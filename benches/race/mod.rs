//! What is raced: families of rows, each a table of what both sides do, and our side of it.

mod bert;
mod context_cite;
mod kernel;
mod libragrad;
mod llm;
mod vit;
mod vlm;

use pellucid::prelude::{Device, Result, Tensor};

use crate::common::Fallible;
use crate::common::plan::{Plan, Scale, target};
use crate::common::racer::Job;
use crate::common::shape::{Model, Work};

/// Races on models of one make.
pub struct Family {
    pub name: &'static str,
    /// The script of `benches/peers` that makes the model.
    pub maker: &'static str,
    /// The script that explains it.
    pub script: &'static str,
    /// Where models are shared with another family, that one's name.
    pub models: &'static str,
    pub shape: fn(Scale) -> (Model, Work),
    /// Our side of every task; none where the script does it too, in the setting `pellucid`.
    pub work: Option<fn(&Job) -> Fallible<()>>,
    pub races: &'static [Race],
    /// What has to hold before anything is measured; the lines it returns are printed.
    pub compare: Option<fn(&Job) -> Fallible<String>>,
    /// Why it cannot be raced here, and what to do about it.
    pub absent: Option<fn() -> Option<String>>,
    /// Whether the work is done on the device, and the memory the device's.
    pub on_device: bool,
}

/// Racers in turn, round by round.
pub struct Race {
    pub ours: &'static [Task],
    /// What the peer is called.
    pub peer: &'static str,
    /// The peer's tasks, and the settings in which it races each.
    pub peers: &'static [(&'static str, &'static [&'static str])],
    pub rounds: usize,
}

/// A row of the table: one of our tasks against those racers that do the peer's task `against`.
pub struct Task {
    pub row: &'static str,
    pub what: &'static str,
    pub against: &'static str,
    /// Multiply–adds; none where matrix products are not what it takes.
    pub operations: Option<fn(&Model, &Work) -> f64>,
    pub same: Same,
}

/// When both sides did the same.
pub enum Same {
    /// Σ scores and delta are apart by no more than this share of Σ scores.
    Within(f64),
    /// They answer different questions: which.
    Another(&'static str),
}

pub const FAMILIES: [&Family; 7] = [
    &bert::FAMILY,
    &llm::FAMILY,
    &context_cite::FAMILY,
    &libragrad::FAMILY,
    &vit::FAMILY,
    &vlm::FAMILY,
    &kernel::FAMILY,
];

impl Family {
    /// The family of this name.
    ///
    /// Errors: there is none.
    pub fn named(name: &str) -> Fallible<&'static Self> {
        let found = FAMILIES.into_iter().find(|family| family.name == name);
        found.ok_or_else(|| format!("no family {name}").into())
    }

    /// A job on the model of this plan's scale.
    pub fn job(&self, plan: &Plan) -> Job {
        let (model, work) = (self.shape)(plan.scale);
        self.job_on(plan, plan.scale_name(), model, work)
    }

    /// A job on any model, which is kept under a name.
    pub fn job_on(&self, plan: &Plan, label: &str, model: Model, work: Work) -> Job {
        let folder = target().join("tmp").join(format!("{}-{label}", self.models)).to_string_lossy().into_owned();
        let (threads, dtype) = (plan.threads, plan.dtype.clone());
        Job {
            family: self.name.into(),
            task: String::new(),
            setting: String::new(),
            folder,
            model,
            work,
            threads,
            dtype,
        }
    }
}

/// Does what this process was started for.
pub fn serve(job: &Job) -> Fallible<()> {
    rayon::ThreadPoolBuilder::new().num_threads(job.threads).build_global()?;
    let work = Family::named(&job.family)?.work.ok_or("this family's script does our side")?;
    work(job)
}

/// A picture `(3,h,w)` of numbers between 0 and 1, from channel, row and column.
fn picture(side: usize, device: &Device, shade: impl Fn(usize, usize, usize) -> f32) -> Result<Tensor> {
    let shade = |i: usize| shade(i / (side * side), i / side % side, i % side);
    Ok(Tensor::from_iter((0..3 * side * side).map(shade), device)?.reshape((3, side, side))?)
}

/// `w37 w74 …`: so many words of the models' vocabulary, as the peers' scripts have them.
fn words(count: usize, factor: usize) -> String {
    (0..count).map(|k| format!("w{}", factor * (k + 1) % 7990)).collect::<Vec<_>>().join(" ")
}
