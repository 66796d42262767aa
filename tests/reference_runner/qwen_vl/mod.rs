//! The first Qwen-VL: a folder per model, with cases of the whole, of its tokenizer, and of its pictures' size.

mod array;
mod case;
mod checks;
mod set;
mod sights;
mod size;
mod tokens;

use std::path::Path;
use std::rc::Rc;

use serde_json::Value as Json;

use super::Fallible;
use super::check::Check;
use super::files;
use super::job::Job;
use set::Set;

/// How the cases of a list are run.
type Runner = fn(&Set, &Json) -> Fallible<Vec<Check>>;

const LISTS: [(&str, Runner); 3] =
    [("cases", case::run), ("tokenizer_cases", tokens::run), ("resize_cases", size::run)];

/// Every case of every set.
pub fn jobs(folder: &Path) -> Vec<Job> {
    let sets = std::fs::read_dir(folder.join("qwen_vl")).into_iter().flatten().flatten();
    let mut sets: Vec<_> = sets.map(|set| set.path()).collect();
    sets.sort();
    sets.iter().flat_map(|set| of_set(set)).collect()
}

fn of_set(folder: &Path) -> Vec<Job> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = match files::json(&folder.join("cases.json")) {
        Some(Ok(file)) => file,
        Some(Err(error)) => return vec![Job::broken("qwen_vl", &name, error.to_string())],
        None => return vec![Job::broken("qwen_vl", &name, "a set without cases.json".into())],
    };
    let strange = file.as_object().into_iter().flat_map(|lists| lists.keys());
    let strange = strange.filter(|list| *list != "meta" && LISTS.iter().all(|(known, _)| known != list));
    let broken =
        strange.map(|list| Job::broken("qwen_vl", &format!("{name}/{list}"), "a list that is not known".into()));
    let mut jobs: Vec<_> = broken.collect();
    let set = Rc::new(Set::new(folder, &file["meta"]));
    for (list, runner) in LISTS {
        let cases = file[list].as_array().into_iter().flatten().enumerate();
        jobs.extend(cases.map(|(i, case)| job(&set, runner, case.clone(), &format!("{name}/{list}/{i}"))));
    }
    jobs
}

/// A case, called by its name in place of its number if it has one.
fn job(set: &Rc<Set>, runner: Runner, case: Json, numbered: &str) -> Job {
    let set = set.clone();
    let name = match (case["name"].as_str(), numbered.split_once('/')) {
        (Some(name), Some((set, _))) => format!("{set}/{name}"),
        _ => numbered.into(),
    };
    Job::new("qwen_vl", &name, move || runner(&set, &case))
}
