//! Where things live: the checkout, and the one folder `.lab` in it that holds all that is installed.

use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The checkout and its `.lab` folder.
pub struct Lab {
    pub root: PathBuf,
    pub home: PathBuf,
    /// What a user's programs keep for themselves, our part of it.
    pub cache: Option<PathBuf>,
}

impl Lab {
    /// The checkout this program was compiled in (cargo compiles it anew when the checkout moves).
    pub fn here() -> Result<Lab> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let root = root.canonicalize().context("the checkout has moved: run `cargo lab` in it")?;
        let cache = named("XDG_CACHE_HOME", ".cache").map(|cache| cache.join("pellucid"));
        Ok(Lab { home: root.join(".lab"), root, cache })
    }

    /// A path inside `.lab`.
    pub fn at(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }

    /// Where kernels build: in `.lab`, or in the user's own cache where `.lab` is somebody else's or cannot be written to.
    pub fn kernels(&self) -> Result<PathBuf> {
        let ours = self.at("kernels");
        match File::options().create(true).append(true).open(ours.join("0.lock")) {
            Ok(_) => Ok(ours),
            Err(_) => Ok(self.cache()?.join("kernels")),
        }
    }

    /// Makes the folder in which kernels build. evcxr cuts the line that names a compiled cell at spaces; where there is one in
    /// the path, the folder lies in the user's cache, and `.lab` has a link to it.
    pub fn make_kernels(&self) -> Result<()> {
        let ours = self.at("kernels");
        if !has_space(&ours) || ours.canonicalize().is_ok_and(|real| !has_space(&real)) {
            return Ok(fs::create_dir_all(&ours)?);
        }
        let mut hash = DefaultHasher::new();
        self.home.hash(&mut hash);
        let real = self.cache()?.join(format!("{:x}", hash.finish()));
        if has_space(&real) {
            bail!("kernels cannot build in a folder with a space in its path, such as {}", real.display());
        }
        remove(&ours)?;
        fs::create_dir_all(&real)
            .and_then(|()| link(&real, &ours))
            .with_context(|| format!("making {}", real.display()))
    }

    fn cache(&self) -> Result<&Path> {
        self.cache.as_deref().context("no place for a kernel to build in: set HOME")
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

/// The folder that a variable names, or else the usual one below the user's home.
pub fn named(variable: &str, usual: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(usual)))
}

fn has_space(path: &Path) -> bool {
    path.to_string_lossy().contains(' ')
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

#[test]
fn kernels_build_where_no_path_has_a_space() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().canonicalize()?;
    let lab = |home| Lab { root: root.clone(), home: root.join(home), cache: Some(root.join("cache")) };
    let (plain, spaced) = (lab("checkout/.lab"), lab("my checkout/.lab"));
    fs::create_dir_all(spaced.at("kernels/warm"))?; // of a time when nobody thought of it
    for lab in [&plain, &spaced] {
        lab.make_kernels()?;
        fs::write(lab.at("kernels/kept"), "")?;
        lab.make_kernels()?;
        assert!(lab.at("kernels/kept").is_file() && !has_space(&lab.at("kernels").canonicalize()?));
    }
    assert_eq!(plain.at("kernels").canonicalize()?, plain.at("kernels"));
    assert!(spaced.at("kernels").canonicalize()?.starts_with(root.join("cache")));
    let nowhere = Lab { cache: Some(root.join("my cache")), ..lab("another checkout/.lab") };
    assert!(nowhere.make_kernels().is_err_and(|error| error.to_string().contains("a space in its path")));
    Ok(())
}
