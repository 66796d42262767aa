//! Where things live: the checkout, and the one folder `.lab` in it that holds all that is installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout and its `.lab` folder.
pub struct Lab {
    pub root: PathBuf,
    pub home: PathBuf,
}

impl Lab {
    /// The checkout this program was compiled in (cargo compiles it anew when the checkout moves).
    pub fn here() -> Result<Lab> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let root = root.canonicalize().context("the checkout has moved: run `cargo lab` in it")?;
        Ok(Lab { home: root.join(".lab"), root })
    }

    /// A path inside `.lab`.
    pub fn at(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }

    /// Where kernels build: in `.lab`, or in the user's own cache where `.lab` is somebody else's or cannot be written to.
    pub fn kernels(&self) -> Result<PathBuf> {
        let ours = self.at("kernels");
        if File::options().create(true).append(true).open(ours.join("0.lock")).is_ok() {
            return Ok(ours);
        }
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
        Ok(cache.context("no place for a kernel to build in: set HOME")?.join("pellucid/kernels"))
    }

    /// The folder of the learner's notebooks, in which every kernel starts.
    pub fn notebooks(&self) -> PathBuf {
        self.root.join("notebooks")
    }

    /// A file of the checkout, as text.
    pub fn read(&self, path: &str) -> Result<String> {
        let path = self.root.join(path);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// Writes a file and the folders above it; whoever reads it meanwhile sees the old one or the new one.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| fs::write(&new, text))
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("writing {}", path.display()))
}

/// Another name for a file or a folder.
#[cfg(unix)]
pub fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
pub fn link(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Removes a file or a folder with all that is in it; one that is not there is fine.
pub fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if path.exists() => Err(error).with_context(|| format!("removing {}", path.display())),
        _ => Ok(()),
    }
}

/// Whether a stamp, the last file a finished step writes, tells of exactly this recipe.
pub fn stamped(stamp: &Path, recipe: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|text| text == recipe)
}
