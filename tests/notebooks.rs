//! The notebooks a learner opens are the chapters that were written: same cells, executed.

use std::fs;
use std::path::{Path, PathBuf};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The code cells of a chapter: its `rust` fences that stand at the beginning of a line.
fn written(chapter: &str) -> Vec<String> {
    let mut cells = Vec::new();
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        if line == "```rust" || line.starts_with("```rust ") {
            cells.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    cells
}

/// The code cells of a notebook, which must have been executed.
fn executed(notebook: &serde_json::Value) -> Vec<String> {
    let cells = notebook["cells"].as_array().into_iter().flatten().filter(|cell| cell["cell_type"] == "code");
    let text = |source: &serde_json::Value| match source.as_array() {
        Some(lines) => lines.iter().filter_map(|line| line.as_str()).collect(),
        None => source.as_str().unwrap_or_default().to_string(),
    };
    cells
        .map(|cell| {
            assert!(cell["execution_count"].is_number(), "a cell was never executed: {}", text(&cell["source"]));
            let errors = cell["outputs"].as_array().into_iter().flatten().filter(|out| out["output_type"] == "error");
            assert_eq!(errors.count(), 0, "a cell failed: {}", text(&cell["source"]));
            text(&cell["source"])
        })
        .collect()
}

#[test]
fn every_chapter_has_its_notebook_and_they_agree() -> Outcome {
    let mut chapters = 0;
    for entry in fs::read_dir(root().join("tutorials"))? {
        let path = entry?.path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let notebook = root().join(format!("notebooks/{name}.ipynb"));
        let notebook: serde_json::Value = serde_json::from_slice(&fs::read(notebook)?)?;
        let (written, executed) = (written(&fs::read_to_string(path)?), executed(&notebook));
        assert!(
            !written.is_empty() && written == executed,
            "notebooks/{name}.ipynb is not tutorials/{name}.md: `cargo lab build {name}`"
        );
        chapters += 1;
    }
    assert!(chapters >= 2, "the course has lost chapters");
    Ok(())
}
