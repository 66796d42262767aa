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

/// Runs a chapter's first cell once. What an interrupted run has compiled is kept, and so is what sources that have changed leave
/// as it was; but what cargo would build beside it, and never look at again, is cleared away.
pub fn warm(lab: &Lab, machine: &Machine) -> Result<()> {
    lab.make_kernels()?;
    let (folder, kept, crates) = (lab.at("kernels/warm"), lab.at("kernels/warm/crates"), crates(lab, machine)?);
    place::remove(&folder.join("stamp"))?;
    if !place::stamped(&kept, &crates) {
        place::remove(&folder)?;
        place::write(&kept, &crates)?;
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
    let sources = ["src", "notebooks/prelude/src"].map(|path| last_change(&lab.root.join(path)));
    let sources = sources.into_iter().collect::<Result<Vec<_>>>()?.into_iter().max();
    let (crates, toolkit) = (crates(lab, machine)?, &machine.device.toolkit);
    Ok(format!("{crates}\n{SET_UP}\n{toolkit:?}\n{sources:?}"))
}

/// What cargo names its files by: where any of it has changed, the old files are of no use, and the new ones stand beside them.
/// The toolkit is not in it, so that what was built for the CPU and for a GPU may both stay.
fn crates(lab: &Lab, machine: &Machine) -> Result<String> {
    let files = ["Cargo.toml", "notebooks/prelude/Cargo.toml", "Cargo.lock"].map(|path| lab.read(path));
    let files = files.into_iter().collect::<Result<Vec<_>>>()?.join("\n");
    Ok(format!("{}\n{}\n{EVCXR}\n{files}", lab.home.display(), machine.rustc))
}

/// When a file was last changed, or any in a folder. Hidden files are an editor's or a desktop's, and the lab itself is none of
/// the kernel's business. Nor does a folder's own time count: a file that is gone was named by one that has changed.
fn last_change(path: &Path) -> Result<SystemTime> {
    if !path.is_dir() {
        return Ok(fs::metadata(path)?.modified()?);
    }
    let mut last = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && !path.ends_with("src/bin") {
            last = last.max(last_change(&path)?);
        }
    }
    Ok(last)
}

#[test]
fn only_what_is_compiled_makes_pellucid_be_compiled_anew() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("src");
    let at = |second| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
    let changes =
        [("model/bert.rs", 10, 10), ("model/.bert.rs.swp", 20, 10), ("bin/lab/main.rs", 30, 10), ("lib.rs", 40, 40)];
    for (path, second, last) in changes {
        let path = source.join(path);
        place::write(&path, "")?;
        fs::File::options().append(true).open(&path)?.set_modified(at(second))?;
        assert_eq!(last_change(&source)?, at(last), "{}", path.display());
    }
    Ok(())
}
