//! The Rust kernel itself: evcxr, compiled from source, and the Rust sources it reads.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::machine;
use crate::place::{self, Lab};
use crate::process::watch;

/// A kernel embeds the analyser of one Rust generation, hence the exact pin.
pub const EVCXR: &str = "0.22.0";

pub fn has_rust_sources() -> bool {
    let sysroot = machine::output("rustc", &["--print", "sysroot"]).unwrap_or_default();
    Path::new(&sysroot).join("lib/rustlib/src/rust/library").is_dir()
}

pub fn add_rust_sources() -> Result<()> {
    if machine::output("rustup", &["--version"]).is_none() {
        bail!("the kernel needs Rust's sources; without rustup, install your system's package `rust-src`");
    }
    watch("rust-src", Command::new("rustup").args(["component", "add", "rust-src"]))
}

/// `cargo install` keeps a record of what it has finished: that is this step's stamp.
pub fn is_installed(lab: &Lab) -> bool {
    let record = fs::read_to_string(lab.at("evcxr/.crates.toml")).unwrap_or_default();
    record.contains(&format!("\"evcxr_jupyter {EVCXR} ")) && lab.at("evcxr/bin/evcxr_jupyter").is_file()
}

/// Its build folder outlives an interruption and goes when the kernel is finished.
pub fn install(lab: &Lab) -> Result<()> {
    let build = lab.at("evcxr-build");
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--locked", "evcxr_jupyter", "--version", EVCXR]);
    cargo.arg("--root").arg(lab.at("evcxr")).arg("--target-dir").arg(&build);
    watch("evcxr_jupyter", &mut cargo)?;
    place::remove(&build)
}
