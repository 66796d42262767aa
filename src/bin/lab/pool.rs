//! One build folder per running kernel: two notebooks open at once must not compile into each other.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::place::{self, Lab};
use crate::process::turn_into;

/// Becomes the kernel, in the first build folder nobody uses.
///
/// The folder's lock goes along as the kernel's standard input, which kernels do not read: it is held exactly as long
/// as the kernel lives, however it ends.
pub fn become_kernel(lab: &Lab, connection_file: &Path) -> Result<()> {
    let (folder, lock) = match env::var("LAB_KERNEL") {
        Ok(name) => waited_for(&lab.at("kernels").join(name))?,
        Err(_) => first_free(&lab.at("kernels/warm"), &lab.kernels()?)?,
    };
    let mut kernel = Command::new(lab.at("evcxr/bin/evcxr_jupyter"));
    // What a desktop or a hub starts often knows nothing of cargo, and a cell nothing of a library that it reaches by a link.
    let cargo = env::var_os("CARGO_HOME").map(|home| PathBuf::from(home).join("bin"));
    kernel.env("PATH", with("PATH", cargo)?).env("LD_LIBRARY_PATH", with("LD_LIBRARY_PATH", libraries(&folder))?);
    for (variable, _) in env::vars_os().filter(|(variable, _)| is_of_a_run(&variable.to_string_lossy())) {
        kernel.env_remove(variable);
    }
    kernel.arg("--control_file").arg(connection_file).env("EVCXR_TMPDIR", folder).stdin(lock);
    turn_into(&mut kernel)
}

/// Whether `cargo run` has set a variable for what it runs. A kernel that inherits it would find that crates were built under
/// another, and build them anew.
fn is_of_a_run(variable: &str) -> bool {
    ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_"].iter().any(|prefix| variable.starts_with(prefix))
}

/// A variable that lists folders, with more of them.
fn with(variable: &str, more: impl IntoIterator<Item = PathBuf>) -> Result<OsString> {
    let usual = env::var_os(variable).unwrap_or_default();
    let usual = env::split_paths(&usual).filter(|folder| !folder.as_os_str().is_empty());
    Ok(env::join_paths(usual.chain(more))?)
}

/// Where a build folder has the libraries that its cells are linked against, one for each kind of machine.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let targets = fs::read_dir(folder.join("target")).into_iter().flatten().flatten();
    targets.map(|target| target.path().join("debug/deps")).filter(|folder| folder.is_dir()).collect()
}

/// The first free folder, filled from the warm one unless it already was.
fn first_free(warm: &Path, kernels: &Path) -> Result<(PathBuf, File)> {
    for number in 0..64 {
        if let Some((folder, lock)) = claim(&kernels.join(number.to_string()))? {
            fill(warm, &folder)?;
            return Ok((folder, lock));
        }
    }
    bail!("64 kernels are running; shut some down")
}

/// This folder and its lock, or nothing when another kernel holds it.
fn claim(folder: &Path) -> Result<Option<(PathBuf, File)>> {
    let lock = lock_of(folder)?;
    Ok(lock.try_lock().is_ok().then(|| (folder.to_owned(), lock)))
}

/// This very folder, if need be after a kernel that is just ending.
fn waited_for(folder: &Path) -> Result<(PathBuf, File)> {
    let lock = lock_of(folder)?;
    lock.lock()?;
    Ok((folder.to_owned(), lock))
}

fn lock_of(folder: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let lock = fs::create_dir_all(folder).and_then(|()| options.open(folder.with_extension("lock")));
    lock.with_context(|| format!("a kernel builds in {}", folder.display()))
}

/// A filled folder carries the stamp of the warm one it was made from; renaming it last makes it whole or absent.
fn fill(warm: &Path, folder: &Path) -> Result<()> {
    let stamp = fs::read_to_string(warm.join("stamp")).unwrap_or_default();
    if place::stamped(&folder.join("stamp"), &stamp) {
        return Ok(());
    }
    let part = folder.with_extension("part");
    place::remove(&part)?;
    mirror(warm, &part).with_context(|| format!("filling {}: is the disk full?", folder.display()))?;
    place::remove(folder)?;
    Ok(fs::rename(part, folder)?)
}

/// Another folder like this one, in a moment and without its hundreds of megabytes: what was compiled is linked to, and only
/// what cargo writes in place is copied. Compilers replace a file by a new one, so that nothing is written through a link.
fn mirror(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true if from.ends_with("incremental") => fs::create_dir_all(to)?,
            true => mirror(&from, &to)?,
            false if is_compiled(&from) => link(&from, &to)?,
            false => copy(&from, &to)?,
        }
    }
    Ok(())
}

fn is_compiled(path: &Path) -> bool {
    let is = |extension: &str| path.extension().is_some_and(|is| is == extension);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("build-script") || name.starts_with("build_script") || ["rlib", "rmeta", "so"].into_iter().any(is)
}

#[cfg(target_os = "linux")]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

/// Elsewhere a cell finds its libraries only beside it; macOS shares the blocks of a copy.
#[cfg(not(target_os = "linux"))]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to).and_then(|_| date(from, to))
}

/// The copy is its owner's to write, whoever owns the original.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::write(to, fs::read(from)?).and_then(|()| date(from, to))
}

/// Gives the copy the time of the original, which cargo goes by.
fn date(from: &Path, to: &Path) -> std::io::Result<()> {
    File::options().append(true).open(to)?.set_modified(fs::metadata(from)?.modified()?)
}
