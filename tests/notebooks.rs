//! The notebooks a learner opens are the chapters that were written: same cells, executed.

#[path = "common/notebook.rs"]
mod notebook;

use std::fs;
use std::path::{Path, PathBuf};

use notebook::text;
use serde_json::Value;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A chapter in two: the code of its cells, which are the `rust` fences that begin a line, and the lines of its prose.
fn written(chapter: &str) -> (Vec<String>, Vec<String>) {
    let (mut cells, mut prose) = (Vec::new(), Vec::new());
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        if line == "```rust" || line.starts_with("```rust ") {
            cells.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
        } else if !line.trim().is_empty() {
            prose.push(line.to_owned());
        }
    }
    (cells, prose)
}

/// The same of a notebook.
fn executed(notebook: &Value) -> (Vec<String>, Vec<String>) {
    let cells = notebook["cells"].as_array().into_iter().flatten();
    let (code, prose): (Vec<&Value>, Vec<&Value>) = cells.partition(|cell| cell["cell_type"] == "code");
    code.iter().for_each(|cell| went_well(cell));
    let lines = prose.into_iter().flat_map(|cell| text(cell).lines().map(str::to_owned).collect::<Vec<_>>());
    (code.into_iter().map(text).collect(), lines.filter(|line| !line.trim().is_empty()).collect())
}

/// A cell was executed and did not fail; an exercise is unsolved as it ships.
fn went_well(cell: &Value) {
    let (code, outputs) = (text(cell), cell["outputs"].to_string());
    assert!(cell["execution_count"].is_number(), "a cell was never executed: {code}");
    assert!(!outputs.contains("\"output_type\":\"error\""), "a cell failed: {code}");
    let exercise = code.lines().any(|line| line.starts_with("check::"));
    assert!(!exercise || outputs.contains("○ Not solved yet"), "an exercise ships solved: {code}");
}

/// The chapters and pages, in order.
fn pages() -> Result<Vec<PathBuf>, std::io::Error> {
    let paths = fs::read_dir(root().join("tutorials"))?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<_>, std::io::Error>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    Ok(paths)
}

#[test]
fn every_chapter_has_its_notebook_and_they_agree() -> Outcome {
    let mut chapters = String::new();
    for path in pages()? {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let notebook = root().join(format!("notebooks/{name}.ipynb"));
        let notebook: Value = serde_json::from_slice(&fs::read(notebook)?)?;
        let (written, executed) = (written(&fs::read_to_string(path)?), executed(&notebook));
        assert!(written == executed, "notebooks/{name}.ipynb is not tutorials/{name}.md: `cargo lab build {name}`");
        chapters.push_str(name.split('_').next().unwrap_or_default());
    }
    assert_eq!(chapters, "000102030405060708091011ABCDEF", "the course has lost pages");
    Ok(())
}

/// Every name that the prelude brings is on the page of everything.
#[test]
fn all_of_pellucid_is_on_its_page() -> Outcome {
    let library = fs::read_to_string(root().join("src/lib.rs"))?;
    let page = fs::read_to_string(root().join("tutorials/A_all_of_pellucid.md"))?;
    let (_, prelude) = library.split_once("pub mod prelude {").ok_or("the prelude is gone")?;
    let (prelude, _) = prelude.split_once("\n}\n").ok_or("the prelude has no end")?;
    let names = prelude.split_inclusive([',', ';', '}']).map(|piece| piece.trim_end_matches([',', ';', '}']).trim());
    let names = names.filter_map(|piece| piece.rsplit([':', '{', ' ']).next()).filter(|name| !name.is_empty());
    let missing: Vec<&str> = names.filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
    Ok(())
}
