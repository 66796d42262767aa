//! The files of a reference folder, and the jobs in each.

use std::path::Path;
use std::rc::Rc;

use serde_json::Value as Json;

use super::job::Job;
use super::{Fallible, captum, context_cite_family, kinds, qwen_vl, rollout_family};

/// Every case of a folder.
pub fn jobs(folder: &Path) -> Vec<Job> {
    let mut jobs = kinds::jobs(folder);
    jobs.extend(lists(folder, "captum_toy_cases.json", "captum_toy", captum::job));
    jobs.extend(contexts(folder));
    jobs.extend(qwen_vl::jobs(folder));
    jobs.extend(strangers(folder));
    jobs
}

/// The file's contents, `None` if there is no such file.
pub fn json(path: &Path) -> Option<Fallible<Json>> {
    let bytes = std::fs::read(path).ok()?;
    Some(serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()).into()))
}

/// The jobs of a file that is `{"meta", "cases": […]}`, one by one.
fn lists(folder: &Path, file: &str, kind: &str, job: fn(Json) -> Job) -> Vec<Job> {
    match json(&folder.join(file)) {
        None => vec![],
        Some(Err(error)) => vec![Job::broken(kind, file, error.to_string())],
        Some(Ok(contents)) => match contents["cases"].as_array() {
            Some(cases) => cases.iter().cloned().map(job).collect(),
            None => vec![Job::broken(kind, file, "a file without `cases`".into())],
        },
    }
}

/// ContextCite and rollout by their own conventions: `topic` says which of the two.
fn contexts(folder: &Path) -> Vec<Job> {
    const FILE: &str = "context_cite_rollout_cases.json";
    let cases = match json(&folder.join(FILE)) {
        None => return vec![],
        Some(Err(error)) => return vec![Job::broken("cc_rollout", FILE, error.to_string())],
        Some(Ok(contents)) => match contents["cases"].as_array() {
            Some(cases) => Rc::new(cases.clone()),
            None => return vec![Job::broken("cc_rollout", FILE, "a file without `cases`".into())],
        },
    };
    let job = |number: usize| match cases[number]["topic"].as_str() {
        Some("rollout") => rollout_family::job(number, &cases),
        Some("contextcite") => context_cite_family::job(number, &cases),
        topic => stranger(&cases[number], topic.unwrap_or_default()),
    };
    (0..cases.len()).map(job).collect()
}

fn stranger(case: &Json, topic: &str) -> Job {
    let name = case["id"].as_str().unwrap_or_default();
    let job = Job::broken("cc_rollout", name, format!("the topic `{topic}` is not known"));
    Job { method: topic.into(), ..job }
}

/// Files that look like cases and that nobody here reads.
fn strangers(folder: &Path) -> Vec<Job> {
    const READ: [&str; 3] = ["cases.json", "captum_toy_cases.json", "context_cite_rollout_cases.json"];
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let strange = names.filter(|name| name.ends_with("cases.json") && !READ.contains(&name.as_str()));
    strange.map(|name| Job::broken("file", &name, "a file of cases that is not known".into())).collect()
}
