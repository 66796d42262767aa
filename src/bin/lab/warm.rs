//! pellucid compiled for the kernel once, so that a chapter's first cell answers in seconds.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::chapters;
use crate::kernel::EVCXR;
use crate::machine::Machine;
use crate::place::{self, Lab};
use crate::process::watch;
use crate::register::register;

/// The cell every chapter begins with.
const SET_UP: &str = include_str!("set_up.md");

pub fn is_warm(lab: &Lab, machine: &Machine) -> bool {
    recipe(lab, machine).is_ok_and(|recipe| place::stamped(&lab.at("kernels/warm/stamp"), &recipe))
}

/// Runs a chapter's first cell once. What an interrupted run has compiled is kept, unless Rust has changed since.
pub fn warm(lab: &Lab, machine: &Machine) -> Result<()> {
    lab.make_kernels()?;
    let (folder, toolchain) = (lab.at("kernels/warm"), lab.at("kernels/warm/toolchain"));
    place::remove(&folder.join("stamp"))?;
    if !place::stamped(&toolchain, &machine.rustc) {
        place::remove(&folder)?;
        place::write(&toolchain, &machine.rustc)?;
    }
    register(lab, &machine.device)?;
    place::write(&folder.join("Cargo.lock"), &lab.read("Cargo.lock")?)?; // the versions the crate is tested with
    place::write(&lab.at("set_up.md"), SET_UP)?;
    let set_up = [lab.at("set_up.md")];
    let compiled = watch("pellucid for the kernel", chapters::runner(lab, &set_up)?.env("LAB_KERNEL", "warm"));
    match machine.device.toolkit {
        Some(_) => compiled.context("PELLUCID_DEVICE=cpu does without the GPU, should it be at fault")?,
        None => compiled?,
    }
    place::write(&folder.join("stamp"), &recipe(lab, machine)?)
}

/// When sources have changed, cargo rebuilds only them; were they no part of the recipe, every kernel would do it for itself.
fn recipe(lab: &Lab, machine: &Machine) -> Result<String> {
    let (lock, prelude) = (lab.read("Cargo.lock")?, lab.read("notebooks/prelude/Cargo.toml")?);
    let (home, rustc, toolkit) = (lab.home.display(), &machine.rustc, &machine.device.toolkit);
    let sources = ["Cargo.toml", "src", "notebooks/prelude"].map(|path| last_change(&lab.root.join(path)));
    let sources = sources.into_iter().collect::<Result<Vec<_>>>()?.into_iter().max();
    Ok(format!("{home}\n{rustc}\n{EVCXR}\n{SET_UP}\n{prelude}\n{toolkit:?}\n{sources:?}\n{lock}"))
}

/// When a file was last changed, or any in a folder. The lab itself is none of the kernel's business.
fn last_change(path: &Path) -> Result<SystemTime> {
    let mut last = fs::metadata(path)?.modified()?;
    if path.is_dir() && !path.ends_with("src/bin") {
        for entry in fs::read_dir(path)? {
            last = last.max(last_change(&entry?.path())?);
        }
    }
    Ok(last)
}
