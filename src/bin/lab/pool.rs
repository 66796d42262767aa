//! One build folder per running kernel: two notebooks open at once must not compile into each other.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::place::{self, Lab};
use crate::process::turn_into;

/// Becomes the kernel, in the first build folder nobody uses.
///
/// The folder's lock goes along as the kernel's standard input, which kernels do not read: it is held exactly as long
/// as the kernel lives, however it ends.
pub fn become_kernel(lab: &Lab, connection_file: &Path) -> Result<()> {
    let (folder, lock) = match std::env::var("LAB_KERNEL") {
        Ok(name) => waited_for(lab, &name)?,
        Err(_) => first_free(lab)?,
    };
    let mut kernel = Command::new(lab.at("evcxr/bin/evcxr_jupyter"));
    kernel.arg("--control_file").arg(connection_file).env("EVCXR_TMPDIR", lab.at(&folder)).stdin(lock);
    turn_into(&mut kernel)
}

/// The first free folder, filled from the warm one unless it already was.
fn first_free(lab: &Lab) -> Result<(String, File)> {
    for number in 0..64 {
        if let Some((folder, lock)) = claim(lab, &number.to_string())? {
            fill(&lab.at("kernels/warm"), &lab.at(&folder))?;
            return Ok((folder, lock));
        }
    }
    bail!("64 kernels are running; shut some down")
}

/// This folder and its lock, or nothing when another kernel holds it.
fn claim(lab: &Lab, name: &str) -> Result<Option<(String, File)>> {
    let (folder, lock) = lockable(lab, name)?;
    Ok(lock.try_lock().is_ok().then_some((folder, lock)))
}

/// This very folder, if need be after a kernel that is just ending.
fn waited_for(lab: &Lab, name: &str) -> Result<(String, File)> {
    let (folder, lock) = lockable(lab, name)?;
    lock.lock()?;
    Ok((folder, lock))
}

fn lockable(lab: &Lab, name: &str) -> Result<(String, File)> {
    let folder = format!("kernels/{name}");
    fs::create_dir_all(lab.at(&folder))?;
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let lock = options.open(lab.at(&format!("{folder}.lock")))?;
    Ok((folder, lock))
}

/// A copy carries the stamp of the warm folder it was made from; renaming it last makes it whole or absent.
fn fill(warm: &Path, folder: &Path) -> Result<()> {
    let stamp = fs::read_to_string(warm.join("stamp")).unwrap_or_default();
    if place::stamped(&folder.join("stamp"), &stamp) {
        return Ok(());
    }
    let part = folder.with_extension("part");
    place::remove(&part)?;
    copy(warm, &part)?;
    place::remove(folder)?;
    Ok(fs::rename(part, folder)?)
}

/// `cp` keeps the times cargo goes by, and shares blocks where the file system can.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let flags = if cfg!(target_os = "macos") { "-ac" } else { "-a" };
    let mut cp = Command::new("cp");
    cp.arg(flags).args(cfg!(target_os = "linux").then_some("--reflink=auto"));
    match cp.arg(from).arg(to).status()? {
        status if status.success() => Ok(()),
        status => bail!("copying {} failed ({status}): is the disk full?", from.display()),
    }
}
