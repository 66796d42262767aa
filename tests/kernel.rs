//! What only the real kernel can show: chapters of `tests/notebooks`, executed as `cargo lab run` does it.
//!
//! `cargo lab prepare` makes the kernel. Without one these tests are skipped, loudly; with `PELLUCID_KERNEL=1` they fail.

#[path = "common/notebook.rs"]
mod notebook;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use notebook::text;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// One tensor per cell, and the gradients are right: candle is loaded once for all cells.
#[test]
fn gradients_are_right_across_cells() {
    execute("gradients_across_cells");
}

/// Without the facade crate the guard speaks up in the second cell.
#[test]
fn static_linking_is_refused() {
    execute("static_linking");
}

/// A typo, a failed `?` and a panic cost what the chapters say they cost, and no more.
#[test]
fn rough_use_costs_no_more_than_the_cell() {
    execute("rough_use");
}

/// Kernels that start together do not build into each other, and one that was stopped in an endless cell goes on.
#[test]
fn several_kernels_work_side_by_side() {
    if kernel_is_ready("several kernels") {
        lab(&["prepare"]); // what changed sources ask for, before kernels start behind its back
        let mut python = Command::new(format!("{ROOT}/.lab/python/bin/python"));
        python.arg(format!("{ROOT}/tests/notebooks/several_kernels.py"));
        ends_well(python.env("JUPYTER_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR")));
    }
}

/// A class gets the chapters without outputs, and its exercises without solutions; its lecturer gets them solved.
#[test]
fn a_class_gets_its_notebooks() -> Result<(), Box<dyn std::error::Error>> {
    if !kernel_is_ready("hand-outs") {
        return Ok(());
    }
    let folder = format!("{}/class", env!("CARGO_TARGET_TMPDIR"));
    let _ = fs::remove_dir_all(&folder);
    lab(&["hand-out", &folder]);
    let mut hints = 0;
    for page in fs::read_dir(format!("{ROOT}/tutorials"))? {
        let page = page?.file_name().to_string_lossy().into_owned();
        let Some(name) = page.strip_suffix(".md") else { continue };
        let [clean, exercises, answers] = ["clean", "exercises", "answers"].map(|twin| cells(&folder, twin, name));
        let (clean, exercises, answers) = (clean?, exercises?, answers?);
        assert!(code(&clean) == code(&exercises), "{name}");
        let counted = |cells: &[Value], fold: &str| cells.iter().map(|cell| count(cell, fold)).sum::<usize>();
        assert_eq!(counted(&exercises, "Solution") + counted(&exercises, "Answer"), 0, "{name}");
        assert_eq!(counted(&answers, "Answer"), counted(&clean, "Answer"), "{name}");
        hints += counted(&exercises, "Hint");
        let (clean, answers) = (code(&clean), code(&answers));
        let solved = clean.iter().zip(&answers).filter(|(shipped, solved)| shipped != solved);
        let is_chapter = name.starts_with(|first: char| first.is_ascii_digit()) && !name.starts_with("00");
        assert_eq!(solved.count(), if is_chapter { 3 } else { 0 }, "{name}");
        assert_eq!(clean.len(), answers.len(), "{name}");
    }
    assert_eq!(hints, 33, "three exercises in each of eleven chapters");
    Ok(())
}

/// How many folds of a cell are called so.
fn count(cell: &Value, fold: &str) -> usize {
    text(cell).matches(&format!("<summary>{fold}</summary>")).count()
}

/// The cells of a notebook that has no outputs.
fn cells(folder: &str, twin: &str, name: &str) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let notebook: Value = serde_json::from_slice(&fs::read(format!("{folder}/{twin}/{name}.ipynb"))?)?;
    let cells = notebook["cells"].as_array().cloned().unwrap_or_default();
    let empty = |cell: &Value| cell["cell_type"] != "code" || cell["outputs"].as_array().is_some_and(Vec::is_empty);
    assert!(!cells.is_empty() && cells.iter().all(empty), "{twin}/{name}");
    Ok(cells)
}

fn code(cells: &[Value]) -> Vec<String> {
    cells.iter().filter(|cell| cell["cell_type"] == "code").map(text).collect()
}

fn execute(chapter: &str) {
    if kernel_is_ready(chapter) {
        lab(&["run", &format!("tests/notebooks/{chapter}.md")]);
    }
}

fn lab(arguments: &[&str]) {
    ends_well(Command::new(env!("CARGO")).arg("lab").args(arguments).current_dir(ROOT));
}

fn ends_well(command: &mut Command) {
    let output = command.output().expect("the program can be started");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}", said.join("\n"));
}

fn kernel_is_ready(what: &str) -> bool {
    let ready = Path::new(ROOT).join(".lab/evcxr/bin/evcxr_jupyter").is_file();
    let required = std::env::var("PELLUCID_KERNEL").is_ok_and(|value| value == "1");
    assert!(ready || !required, "no kernel here: `cargo lab prepare` makes one");
    if !ready {
        let skipped = format!("SKIPPED {what}: no Rust kernel here; `cargo lab prepare` makes one\n");
        let _ = std::io::stderr().write_all(skipped.as_bytes()); // past the test harness, which swallows eprintln!
    }
    ready
}
