//! Becoming a kernel, with what it needs around it, whoever starts it: JupyterLab, an editor, a hub.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::machine::said;
use crate::place::{self, Lab};
use crate::pool;
use crate::process::turn_into;

/// Compiles cells unoptimised and everything they call optimised: a cell then takes half a second. Cargo looks for it above
/// the folder that it builds in.
const CELLS_UNOPTIMISED: &str = "[profile.dev.package.ctx]\nopt-level = 0\n";

/// What says where libraries lie, and what it stands for where nothing has set it.
const LIBRARIES: (&str, &str) = if cfg!(target_os = "macos") {
    ("DYLD_FALLBACK_LIBRARY_PATH", "/usr/local/lib:/usr/lib")
} else {
    ("LD_LIBRARY_PATH", "")
};

/// Becomes the kernel, in the first build folder nobody uses; the one that `LAB_KERNEL=warm` asks for may download crates.
///
/// The folder's lock goes along as the kernel's standard input, which kernels do not read: it is held exactly as long
/// as the kernel lives, however it ends.
pub fn become_kernel(lab: &Lab, connection_file: &Path) -> Result<()> {
    let (warm, kernels) = (lab.at("kernels/warm"), lab.kernels()?);
    let (settings, (folder, lock)) = match env::var("LAB_KERNEL").as_deref() {
        Ok("warm") => ("evcxr/online", pool::waited_for(&warm)?),
        _ => ("evcxr/offline", pool::first_free(&warm, &kernels)?),
    };
    place::write(&kernels.join(".cargo/config.toml"), CELLS_UNOPTIMISED)?;
    let mut kernel = Command::new(lab.at("evcxr/bin/evcxr_jupyter"));
    kernel.arg("--control_file").arg(connection_file).stdin(lock);
    forget_the_run(&mut kernel);
    find_programs(&mut kernel, &folder)?;
    turn_into(kernel.env("EVCXR_CONFIG_DIR", lab.at(settings)).env("EVCXR_TMPDIR", folder))
}

/// Without the variables that `cargo run` has set for what it runs: a kernel that inherits them finds that crates were built
/// under others, and builds them anew.
fn forget_the_run(kernel: &mut Command) {
    let of_a_run = |variable: &OsString| {
        let variable = variable.to_string_lossy();
        ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_"].iter().any(|prefix| variable.starts_with(prefix))
    };
    for variable in env::vars_os().map(|(variable, _)| variable).filter(of_a_run) {
        kernel.env_remove(variable);
    }
}

/// What a desktop or a hub starts often knows nothing of cargo, and a cell nothing of its libraries: it is loaded from another
/// folder than it was linked in, and reaches them by a link.
fn find_programs(kernel: &mut Command, folder: &Path) -> Result<()> {
    let path = with("PATH", "", env::var_os("CARGO_HOME").map(|home| PathBuf::from(home).join("bin")))?;
    let (variable, usual) = LIBRARIES;
    kernel.env(variable, with(variable, usual, libraries(folder, &path))?).env("PATH", path);
    Ok(())
}

/// A variable that lists folders, the usual ones if it is not set, with more of them ahead. (An empty one would stand for the
/// notebook's own folder.)
fn with(variable: &str, usual: &str, more: impl IntoIterator<Item = PathBuf>) -> Result<OsString> {
    let listed = env::var_os(variable).unwrap_or_else(|| usual.into());
    let folders = more.into_iter().chain(env::split_paths(&listed));
    Ok(env::join_paths(folders.filter(|folder| !folder.as_os_str().is_empty()))?)
}

/// Where the libraries are that cells are linked against: those built in the folder, for each kind of machine, and Rust's own.
fn libraries(folder: &Path, path: &OsStr) -> Vec<PathBuf> {
    let targets = fs::read_dir(folder.join("target")).into_iter().flatten().flatten();
    let built = targets.map(|target| target.path().join("debug/deps")).filter(|folder| folder.is_dir());
    let rust = said(Command::new("rustc").args(["--print", "target-libdir"]).env("PATH", path));
    built.chain(rust.map(PathBuf::from)).collect()
}

#[test]
fn folders_go_ahead_of_what_a_variable_lists_or_stands_for() -> Result<()> {
    let listed = with("PELLUCID_NOT_SET", "/usr/local/lib:/usr/lib", ["/built".into(), "".into()])?;
    assert_eq!(listed, "/built:/usr/local/lib:/usr/lib");
    assert!(with("PATH", "", ["/built".into()])?.to_string_lossy().starts_with("/built:/"));
    Ok(())
}
