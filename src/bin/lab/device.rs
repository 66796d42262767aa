//! The device that notebooks compute on: an NVIDIA GPU where there is one, and a compiler for it, or the CPU.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::machine::output;

/// A device, and why it is this one.
pub struct Device {
    /// As `PELLUCID_DEVICE` spells it: `cpu`, `cuda:0`.
    pub name: String,
    /// The folder of the CUDA toolkit, where pellucid is built with its feature `cuda`.
    pub toolkit: Option<PathBuf>,
    why: String,
}

/// What is asked of evcxr's cargo in place of its own flags, which depend on what else is on the path: other flags would mean
/// that all crates are built anew.
const FLAGS: &str = "-Cprefer-dynamic";
/// The same, so that the notebooks' prelude is built for CUDA.
const FOR_CUDA: &str = "-Cprefer-dynamic\x1f--cfg\x1fpellucid_cuda";

/// The device that `PELLUCID_DEVICE` asks for, or the best that the machine has.
pub fn choose() -> Result<Device> {
    let asked = env::var_os("PELLUCID_DEVICE").map(|name| name.to_string_lossy().into_owned());
    chosen(asked.as_deref(), &gpus(), toolkit())
}

/// The same, of what is asked for, of the GPUs that are there, and of the toolkit if there is one.
fn chosen(asked: Option<&str>, gpus: &[String], toolkit: Option<PathBuf>) -> Result<Device> {
    let cpu = |why: String| Ok(Device { name: "cpu".into(), toolkit: None, why });
    match (asked, gpus.first(), toolkit) {
        (Some("cpu"), ..) => cpu("PELLUCID_DEVICE asks for it".into()),
        (Some(name), _, toolkit) => on_gpu(name, gpus, toolkit),
        (None, Some(_), Some(toolkit)) => on_gpu("cuda:0", gpus, Some(toolkit)),
        (None, Some(gpu), None) => cpu(format!("there is a GPU ({gpu}), but {NO_COMPILER}")),
        (None, None, _) => cpu(NO_GPU.into()),
    }
}

const EXPECTED: &str = "expected `cpu` or `cuda:0`: notebooks compute on the CPU or on an NVIDIA GPU, \
                        and PELLUCID_DEVICE=cpu goes on";
const NO_GPU: &str = "`nvidia-smi -L` lists no NVIDIA GPU";
const NO_COMPILER: &str = "no CUDA compiler: install the CUDA toolkit, and have its `nvcc` on PATH or under CUDA_HOME";

/// A GPU by the name that was asked for; an error that says what it lacks.
fn on_gpu(name: &str, gpus: &[String], toolkit: Option<PathBuf>) -> Result<Device> {
    let number =
        if name == "cuda" { Some(0) } else { name.strip_prefix("cuda:").and_then(|number| number.parse().ok()) };
    let number: usize = number.with_context(|| format!("PELLUCID_DEVICE is `{name}`, {EXPECTED}"))?;
    let lacks = |what: &str| format!("PELLUCID_DEVICE asks for `{name}`, but {what}. PELLUCID_DEVICE=cpu does without");
    match (gpus.get(number), toolkit) {
        (_, None) if !gpus.is_empty() => bail!(lacks(&format!("there is {NO_COMPILER}"))),
        (Some(gpu), toolkit) => Ok(Device { name: format!("cuda:{number}"), toolkit, why: gpu.clone() }),
        (None, _) if gpus.is_empty() => bail!(lacks(NO_GPU)),
        (None, _) => bail!(lacks(&format!("there are {} GPUs, counted from 0", gpus.len()))),
    }
}

/// What `nvidia-smi -L` says of each GPU: «GPU 0: NVIDIA H100 PCIe (UUID: …)» → «NVIDIA H100 PCIe».
fn gpus() -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("GPU ")?.split_once(": ")?.1.split(" (UUID").next()?.to_owned());
    output("nvidia-smi", &["-L"]).unwrap_or_default().lines().filter_map(name).collect()
}

/// The folder above `bin/nvcc`, found where candle's build looks for it: on PATH, then under CUDA_HOME or CUDA_PATH.
fn toolkit() -> Option<PathBuf> {
    let on_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
    let folders = on_path.chain(homes.map(|home| Path::new(&home).join("bin")));
    let compiler = folders.map(|folder| folder.join("nvcc")).find(|compiler| compiler.is_file())?;
    Some(compiler.canonicalize().ok()?.parent()?.parent()?.to_owned())
}

impl Device {
    /// What the kernel, and the cargo it calls, find in their environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let before = |folder: &str, variable: &'static str, toolkit: &Path| {
            let rest = env::var(variable).map_or(String::new(), |rest| format!(":{rest}"));
            (variable, format!("{}{rest}", toolkit.join(folder).display()))
        };
        let flags = if self.toolkit.is_some() { FOR_CUDA } else { FLAGS };
        let mut variables = vec![("PELLUCID_DEVICE", self.name.clone()), ("CARGO_ENCODED_RUSTFLAGS", flags.into())];
        if let Some(toolkit) = &self.toolkit {
            variables.push(before("bin", "PATH", toolkit));
            variables.push(before("lib64", "LD_LIBRARY_PATH", toolkit));
        }
        variables
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notebooks compute on {}: {}.", self.name, self.why)
    }
}

#[test]
fn a_kernel_on_a_gpu_is_built_for_it() {
    let gpus = ["NVIDIA H100 PCIe".to_owned()];
    let variable = |device: &Device, name| device.environment().into_iter().find(|(known, _)| *known == name);
    let gpu = chosen(None, &gpus, Some("/opt/cuda".into())).expect("there is all it needs");
    assert_eq!(variable(&gpu, "PELLUCID_DEVICE"), Some(("PELLUCID_DEVICE", "cuda:0".into())));
    assert!(variable(&gpu, "CARGO_ENCODED_RUSTFLAGS").is_some_and(|(_, flags)| flags.ends_with("pellucid_cuda")));
    assert!(variable(&gpu, "PATH").is_some_and(|(_, path)| path.starts_with("/opt/cuda/bin:")));
    let cpu = chosen(Some("cpu"), &gpus, Some("/opt/cuda".into())).expect("there is always a CPU");
    let expected = [("PELLUCID_DEVICE", "cpu".into()), ("CARGO_ENCODED_RUSTFLAGS", "-Cprefer-dynamic".into())];
    assert_eq!(cpu.environment(), expected);
}
