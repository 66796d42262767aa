//! Captum's own test numbers, on its toy networks.

mod absence;
mod dummy;
mod families;
mod llm;
mod methods;
mod problem;
mod record;
mod template;
mod toys;

use serde_json::Value as Json;

use super::job::Job;
use record::Record;

/// A case of `captum_toy_cases.json`.
pub fn job(case: Json) -> Job {
    let word = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
    let (name, method) = (word("name"), format!("{} on {}", word("method"), word("model")));
    let work = move || families::checks(&Record::new(&case)?);
    Job { method, ..Job::new("captum_toy", &name, work) }
}
