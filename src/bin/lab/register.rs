//! What Jupyter is told about the kernel.

use std::env;
use std::fs;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::device::Device;
use crate::jupyter::FOLDERS;
use crate::place::{self, Lab};

/// All that the chapters need is compiled already, but cargo would ask for newer versions, and fail where there is no network.
/// The command `:offline 0` in a cell lets a notebook have further crates.
const OFFLINE: &str = "[evcxr]\noffline_mode = true\n";

/// Keeps the memory a cell frees for the next one, instead of giving it back and asking again.
const MALLOC: &str = "glibc.malloc.mmap_threshold=33554432:\
                      glibc.malloc.trim_threshold=2147483647:\
                      glibc.malloc.top_pad=268435456";

/// Where cargo and rustup live, below the home folder unless a variable says otherwise. A kernel builds with the toolchain and the
/// crates that pellucid was compiled with, whoever starts it and from wherever.
const HOMES: [(&str, &str); 2] = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];

/// Costs nothing, so it is done at every start and is never out of date.
pub fn register(lab: &Lab, device: &Device) -> Result<()> {
    place::write(&lab.at("python/share/jupyter/lab/settings/overrides.json"), &quiet().to_string())?;
    place::write(&lab.at("python/share/jupyter/kernels/pellucid/kernel.json"), &format!("{:#}\n", spec(lab, device)))?;
    place::write(&lab.at("evcxr/offline/evcxr.toml"), OFFLINE)?;
    for folder in FOLDERS.map(|(_, folder)| folder).iter().chain(&["evcxr/online"]) {
        fs::create_dir_all(lab.at(folder))?;
    }
    install_myself(lab)
}

/// A kernel outlives this run of `cargo lab`, and cargo may rebuild us meanwhile: it gets a copy.
fn install_myself(lab: &Lab) -> Result<()> {
    let (copy, new) = (lab.at("bin/lab"), lab.at("bin/lab.new"));
    fs::create_dir_all(lab.at("bin"))?;
    fs::copy(env::current_exe()?, &new).context("copying `lab`")?;
    Ok(fs::rename(new, copy)?)
}

/// JupyterLab asks nobody for news or updates.
fn quiet() -> Value {
    json!({"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}})
}

fn spec(lab: &Lab, device: &Device) -> Value {
    json!({
        "argv": [lab.at("bin/lab"), "kernel", "{connection_file}"],
        "display_name": "Rust (pellucid)",
        "language": "rust",
        "interrupt_mode": "message",
        "env": environment(lab, device),
    })
}

/// Work is spread by rayon, so candle's own threads stay at one. A faster linker needs no mention: evcxr takes mold by itself
/// where it is on the path. What cargo keeps to compile a changed crate in parts would take 350 MB, and makes no cell quicker.
fn environment(lab: &Lab, device: &Device) -> Map<String, Value> {
    let threads = available_parallelism().map_or(1, usize::from).to_string();
    let mut variables = Map::new();
    let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value.into());
    set("RUST_LIB_BACKTRACE", "0".into());
    set("RAYON_NUM_THREADS", threads);
    set("CANDLE_NUM_THREADS", "1".into());
    set("CARGO_INCREMENTAL", "0".into());
    set("PELLUCID_MODELS", lab.at("models").display().to_string());
    let homes = HOMES.iter().filter_map(|(name, usual)| Some((name, place::named(name, usual)?)));
    for (name, folder) in homes.filter(|(_, folder)| folder.is_dir()) {
        set(name, folder.display().to_string());
    }
    if let Ok(toolchain) = env::var("RUSTUP_TOOLCHAIN") {
        set("RUSTUP_TOOLCHAIN", toolchain); // rustup's cargo tells us which of its toolchains it is
    }
    for (name, value) in device.environment() {
        set(name, value);
    }
    if cfg!(target_os = "linux") {
        set("GLIBC_TUNABLES", MALLOC.into());
    }
    variables
}

#[test]
fn a_kernel_builds_with_the_toolchain_that_runs_this() -> Result<()> {
    let variables = environment(&Lab::here()?, &crate::device::choose()?);
    let told = variables.get("RUSTUP_TOOLCHAIN").and_then(Value::as_str);
    assert_eq!(told, env::var("RUSTUP_TOOLCHAIN").ok().as_deref(), "rustup's cargo sets it for what it runs");
    Ok(())
}
