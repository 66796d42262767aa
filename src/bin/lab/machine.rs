//! What the machine must bring along: Rust, a C compiler and Python, nothing else.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::device::{self, Device};

/// The versions everything is built with; a step is repeated when they change.
pub struct Machine {
    pub rustc: String,
    pub python: String,
    /// What notebooks compute on.
    pub device: Device,
}

const RUST: (u32, u32) = (1, 95);
const PYTHON: (u32, u32) = (3, 10);

const CC_HELP: &str = if cfg!(target_os = "macos") {
    "a C compiler (`cc`) to link the cells: `xcode-select --install`"
} else {
    "a C compiler (`cc`) to link the cells: `sudo apt install build-essential`, or your system's equivalent"
};
const RUST_HELP: &str = "Rust 1.95 or newer: `rustup update stable`, or install it from https://rustup.rs";
const PYTHON_HELP: &str = if cfg!(target_os = "macos") {
    "Python 3.10 or newer: `brew install python`, or install it from https://www.python.org"
} else {
    "Python 3.10 or newer with its `venv` module: `sudo apt install python3-venv`, or your system's equivalent"
};

/// Looks for all three, so that one error names everything that is missing, and for a GPU.
pub fn look() -> Result<Machine> {
    if cfg!(not(unix)) {
        bail!("`cargo lab` runs on Linux and macOS; on Windows, use it inside WSL 2");
    }
    let device = device::choose()?;
    match (rustc(), output("cc", &["--version"]), python()) {
        (Some(rustc), Some(_), Some(python)) => Ok(Machine { rustc, python, device }),
        (rustc, cc, python) => bail!(
            "this machine still needs\n{}",
            [missing(rustc, RUST_HELP), missing(cc, CC_HELP), missing(python, PYTHON_HELP),].concat()
        ),
    }
}

fn missing(found: Option<String>, help: &str) -> String {
    found.map_or_else(|| format!("  - {help}\n"), |_| String::new())
}

fn rustc() -> Option<String> {
    output("rustc", &["--version", "--verbose"]).filter(|text| version(text) >= Some(RUST))
}

/// Without its last number, which a security update changes: an environment outlives that. Debian and Ubuntu ship `venv` without
/// the `ensurepip` it needs, hence both.
fn python() -> Option<String> {
    let probe = "import sys, venv, ensurepip; print('Python', '%d.%d' % sys.version_info[:2], sys.base_prefix)";
    output("python3", &["-c", probe]).filter(|text| version(text) >= Some(PYTHON))
}

/// «rustc 1.95.0 (…)» → (1, 95)
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What a program prints, if it is there and ends well.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    said(Command::new(program).args(arguments))
}

/// What a command prints, if its program is there and ends well.
pub fn said(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

#[test]
fn versions_are_read_and_ordered() {
    assert_eq!(version("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
    assert_eq!(version("Python 3.9 /usr"), Some((3, 9)));
    assert!(version("Python 3.10 /usr") > version("Python 3.9 /usr"));
    assert_eq!(version("rustc: command not found"), None);
}
