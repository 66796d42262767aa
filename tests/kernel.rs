//! What only the real kernel can show: chapters of `tests/notebooks`, executed as `cargo lab run` does it.
//!
//! `cargo lab prepare` makes the kernel. Without one these tests are skipped, loudly; with `PELLUCID_KERNEL=1` they fail.

use std::io::Write;
use std::path::Path;
use std::process::Command;

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

fn execute(chapter: &str) {
    if !kernel_is_ready(chapter) {
        return;
    }
    let path = format!("tests/notebooks/{chapter}.md");
    let lab = Command::new(env!("CARGO")).args(["lab", "run", &path]).current_dir(ROOT).output();
    let lab = lab.expect("cargo can be started");
    let said = [lab.stdout, lab.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(lab.status.success(), "{}", said.join("\n"));
}

fn kernel_is_ready(chapter: &str) -> bool {
    let ready = Path::new(ROOT).join(".lab/kernels/warm/stamp").is_file();
    let required = std::env::var("PELLUCID_KERNEL").is_ok_and(|value| value == "1");
    assert!(ready || !required, "no kernel here: `cargo lab prepare` makes one");
    if !ready {
        let skipped = format!("SKIPPED {chapter}: no Rust kernel here; `cargo lab prepare` makes one\n");
        let _ = std::io::stderr().write_all(skipped.as_bytes()); // past the test harness, which swallows eprintln!
    }
    ready
}
