//! One build folder per running kernel: two notebooks open at once must not compile into each other.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::place;

/// The first free folder and its lock, filled from the warm one unless it already was.
pub fn first_free(warm: &Path, kernels: &Path) -> Result<(PathBuf, File)> {
    for folder in (0..64).map(|number| kernels.join(number.to_string())) {
        if let Some(lock) = claim(&folder)? {
            fill(warm, &folder)?;
            return Ok((folder, lock));
        }
    }
    bail!("64 kernels are running; shut some down")
}

/// The lock of this folder, or nothing when another kernel holds it.
fn claim(folder: &Path) -> Result<Option<File>> {
    let lock = lock_of(folder)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", folder.display())),
    }
}

/// This very folder and its lock, if need be after a kernel that is just ending.
pub fn waited_for(folder: &Path) -> Result<(PathBuf, File)> {
    let lock = lock_of(folder)?;
    lock.lock()?;
    Ok((folder.to_owned(), lock))
}

fn lock_of(folder: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let lock = fs::create_dir_all(folder).and_then(|()| options.open(folder.with_extension("lock")));
    lock.with_context(|| format!("making room for a kernel in {}", folder.display()))
}

/// A filled folder carries the stamp of the warm one it was made from; renaming it last makes it whole or absent.
fn fill(warm: &Path, folder: &Path) -> Result<()> {
    let now = || stamp(warm).context("pellucid is not compiled yet: `cargo lab prepare`");
    let before = now()?;
    if stamp(folder).is_ok_and(|filled| filled == before) {
        return Ok(());
    }
    let part = folder.with_extension("part");
    place::remove(&part)?;
    mirror(warm, &part).with_context(|| format!("filling {}: is the disk full?", folder.display()))?;
    if now()? != before {
        bail!("pellucid was compiled anew meanwhile: start the kernel again");
    }
    place::remove(folder)?;
    Ok(fs::rename(part, folder)?)
}

/// What was built, and when: the same recipe makes other files each time, by their dates.
fn stamp(folder: &Path) -> std::io::Result<(String, SystemTime)> {
    let stamp = folder.join("stamp");
    Ok((fs::read_to_string(&stamp)?, fs::metadata(&stamp)?.modified()?))
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

/// Whether a compiler made it: a library, or the program of a build script.
fn is_compiled(path: &Path) -> bool {
    let of_a_script = path.ancestors().nth(2).is_some_and(|folder| folder.ends_with("build"));
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => ["rlib", "rmeta", "so", "dylib"].contains(&extension),
        None => of_a_script && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("build")),
    }
}

/// Except on Linux a cell finds its libraries only beside it; but macOS shares the blocks of a copy.
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    match cfg!(target_os = "linux") {
        true => place::link(from, to),
        false => fs::copy(from, to).and_then(|_| date(from, to)),
    }
}

/// The copy is its owner's to write, whoever owns the original.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::write(to, fs::read(from)?).and_then(|()| date(from, to))
}

/// Gives the copy the time of the original, which cargo goes by.
fn date(from: &Path, to: &Path) -> std::io::Result<()> {
    File::options().append(true).open(to)?.set_modified(fs::metadata(from)?.modified()?)
}

/// A warm folder with one file of each kind, in a folder of the test's own.
#[cfg(test)]
fn warmed() -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let warm = folder.path().join("warm");
    for file in ["deps/libone.rlib", "deps/one.d", "incremental/one/work", "build/one-1/build-script-build"] {
        place::write(&warm.join("target/debug").join(file), file)?;
    }
    place::write(&warm.join("stamp"), "first")?;
    Ok((folder, warm))
}

#[test]
fn kernels_share_what_was_compiled_and_nothing_that_is_written() -> Result<()> {
    let (kernels, warm) = warmed()?;
    let (one, lock) = first_free(&warm, kernels.path())?;
    let (two, _second) = first_free(&warm, kernels.path())?;
    assert_ne!(one, two, "the first is in use");
    let is_link = |file: &str| one.join("target/debug").join(file).is_symlink();
    let compiled = ["deps/libone.rlib", "build/one-1/build-script-build"];
    assert_eq!(compiled.map(is_link), [cfg!(target_os = "linux"); 2]);
    assert!(!is_link("deps/one.d") && fs::read_dir(one.join("target/debug/incremental"))?.next().is_none());
    let time = |folder: &Path| fs::metadata(folder.join("target/debug/deps/one.d"))?.modified();
    assert_eq!(time(&one)?, time(&warm)?, "cargo goes by it");

    fs::write(one.join("cell"), "")?;
    drop(lock);
    let (again, lock) = first_free(&warm, kernels.path())?;
    assert!(again == one && one.join("cell").is_file(), "free again, and filled already");
    drop(lock);
    place::write(&warm.join("stamp"), "first")?;
    assert!(first_free(&warm, kernels.path())?.0 == one && !one.join("cell").exists(), "filled anew");
    Ok(())
}

/// The warm folder holds a pipe: filling waits there, while the stamp changes.
#[test]
#[cfg(unix)]
fn no_kernel_starts_on_half_of_an_old_build_and_half_of_a_new_one() -> Result<()> {
    let (kernels, warm) = warmed()?;
    let pipe = warm.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    let meanwhile = warm.join("stamp");
    let other = std::thread::spawn(move || {
        let mut pipe = File::options().write(true).open(pipe)?;
        fs::write(meanwhile, "second")?;
        std::io::Write::write_all(&mut pipe, b"as it was")
    });
    let refused = first_free(&warm, kernels.path()).expect_err("two builds in one folder");
    assert!(refused.to_string().contains("compiled anew meanwhile"), "{refused:#}");
    assert!(!kernels.path().join("0/stamp").exists());
    other.join().expect("it does not panic")?;
    place::remove(&warm.join("stamp"))?;
    let refused = first_free(&warm, kernels.path()).expect_err("nothing is compiled");
    assert!(refused.to_string().contains("`cargo lab prepare`"), "{refused:#}");
    Ok(())
}
