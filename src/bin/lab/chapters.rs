//! Chapters, executed in the real kernel, or written for a class.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::jupyter::python;
use crate::place::{self, Lab};
use crate::process::turn_into;

/// Our programs in Python, which import each other.
const PROGRAMS: [(&str, &str); 3] = [
    ("chapter.py", include_str!("chapter.py")),
    ("run.py", include_str!("run.py")),
    ("hand_out.py", include_str!("hand_out.py")),
];

/// Executes chapters headlessly. `options` are the program's: with `--build`, the executed notebooks become the ones learners
/// open; with `--solved`, every exercise is solved.
pub fn run(lab: &Lab, chapters: &[PathBuf], options: &[&str]) -> Result<()> {
    turn_into(runner(lab, chapters)?.args(options))
}

/// The program that executes chapters, one after the other.
pub fn runner(lab: &Lab, chapters: &[PathBuf]) -> Result<Command> {
    program(lab, "run.py", chapters, &lab.at("out"))
}

/// Writes all chapters for a class: as they are, without solutions, and solved.
pub fn hand_out(lab: &Lab, folder: &Path) -> Result<()> {
    turn_into(&mut program(lab, "hand_out.py", &named(lab, &[])?, folder)?)
}

/// One of our programs, for these chapters; it writes to `out`.
fn program(lab: &Lab, name: &str, chapters: &[PathBuf], out: &Path) -> Result<Command> {
    for (name, text) in PROGRAMS {
        place::write(&lab.at("bin").join(name), text)?;
    }
    let mut python = python(lab);
    python.arg(lab.at("bin").join(name)).args(chapters);
    python.arg("--notebooks").arg(lab.notebooks()).arg("--out").arg(out);
    Ok(python)
}

/// The chapters named, or all of them in order.
pub fn named(lab: &Lab, names: &[String]) -> Result<Vec<PathBuf>> {
    let course = course(&lab.root.join("tutorials"))?;
    match names {
        [] if course.is_empty() => bail!("there are no chapters in tutorials/"),
        [] => Ok(course),
        names => names.iter().map(|name| find(&course, name)).collect(),
    }
}

/// A Markdown file anywhere, or a chapter by a beginning that no other name has: `01` is enough.
fn find(course: &[PathBuf], name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(path.canonicalize()?);
    }
    let begins = |chapter: &&PathBuf| chapter.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with(name));
    let found: Vec<PathBuf> = course.iter().filter(begins).cloned().collect();
    match found.as_slice() {
        [chapter] => Ok(chapter.clone()),
        [] => bail!("no chapter «{name}»; there are: {}", stems(course)),
        _ => bail!("«{name}» may be any of these chapters: {}", stems(&found)),
    }
}

/// All chapters, in the order of their numbers.
fn course(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    Ok(paths)
}

fn stems(course: &[PathBuf]) -> String {
    let stems = course.iter().filter_map(|path| path.file_stem()).map(|stem| stem.to_string_lossy());
    stems.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_beginning_must_be_one_chapters_own() {
    let course = ["01_gradients.md", "10_clip.md", "11_which.md"].map(PathBuf::from);
    assert_eq!(find(&course, "01").ok(), Some(course[0].clone()));
    let refused = |name| find(&course, name).expect_err("it names no single chapter").to_string();
    assert_eq!(refused("1"), "«1» may be any of these chapters: 10_clip, 11_which");
    assert_eq!(refused("2"), "no chapter «2»; there are: 01_gradients, 10_clip, 11_which");
}
