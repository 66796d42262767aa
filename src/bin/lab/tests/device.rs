//! What notebooks compute on, on machines that stand-ins for `nvidia-smi` and `nvcc` make up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TWO_GPUS: &str = "GPU 0: NVIDIA H100 PCIe (UUID: GPU-3f1c)\nGPU 1: NVIDIA A10 (UUID: GPU-77ab)";

/// A machine whose PATH holds these stand-ins, and nothing else.
struct Machine(PathBuf);

impl Machine {
    /// Of a name that no other test takes.
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bin")).expect("a folder of the test's own");
        Self(folder)
    }

    /// The same with a program, in a folder, that says this.
    fn with(self, program: &str, says: &str) -> Self {
        let file = self.0.join(program);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder of the test's own");
        fs::write(&file, format!("#!/bin/sh\necho '{says}'\n")).expect("a file of the test's own");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a file of the test's own");
        self
    }

    fn lab(&self, task: &str, variables: &[(&str, &str)]) -> Output {
        let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
        lab.arg(task).env_clear().env("PATH", self.0.join("bin")).envs(variables.iter().copied());
        lab.output().expect("the lab can be started")
    }

    /// What it says of its device, where this is asked for.
    fn device(&self, variables: &[(&str, &str)]) -> String {
        let Output { stdout, stderr, .. } = self.lab("device", variables);
        [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat().trim().into()
    }
}

#[test]
fn the_best_device_is_chosen_and_named() {
    let bare = Machine::new("bare");
    assert_eq!(bare.device(&[]), "Notebooks compute on cpu: `nvidia-smi -L` lists no NVIDIA GPU.");
    let seeing = Machine::new("seeing").with("bin/nvidia-smi", TWO_GPUS);
    let said = seeing.device(&[]);
    assert!(
        said.starts_with("Notebooks compute on cpu: there is a GPU (NVIDIA H100 PCIe), but no CUDA compiler"),
        "{said}"
    );
    let whole = Machine::new("whole").with("bin/nvidia-smi", TWO_GPUS).with("bin/nvcc", "nvcc");
    assert_eq!(whole.device(&[]), "Notebooks compute on cuda:0: NVIDIA H100 PCIe.");
}

#[test]
fn a_compiler_may_lie_where_a_variable_says() {
    let machine = Machine::new("aside").with("bin/nvidia-smi", TWO_GPUS).with("toolkit/bin/nvcc", "nvcc");
    let home = machine.0.join("toolkit").display().to_string();
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        assert_eq!(machine.device(&[(variable, &home)]), "Notebooks compute on cuda:0: NVIDIA H100 PCIe.");
    }
}

#[test]
fn what_is_asked_for_is_taken_or_refused() {
    let asked = |machine: &Machine, name| machine.device(&[("PELLUCID_DEVICE", name)]);
    let whole = Machine::new("asked").with("bin/nvidia-smi", TWO_GPUS).with("bin/nvcc", "nvcc");
    assert_eq!(asked(&whole, "cpu"), "Notebooks compute on cpu: PELLUCID_DEVICE asks for it.");
    assert_eq!(asked(&whole, "cuda"), "Notebooks compute on cuda:0: NVIDIA H100 PCIe.");
    assert_eq!(asked(&whole, "cuda:1"), "Notebooks compute on cuda:1: NVIDIA A10.");
    assert!(asked(&whole, "cuda:2").starts_with("error: PELLUCID_DEVICE asks for `cuda:2`, but there are 2 GPUs"));
    let metal = asked(&whole, "metal:0");
    assert!(metal.contains("PELLUCID_DEVICE is `metal:0`, expected `cpu` or `cuda:0`"), "{metal}");
    assert!(metal.contains("PELLUCID_DEVICE=cpu goes on"), "{metal}");
    let seeing = Machine::new("no_compiler").with("bin/nvidia-smi", TWO_GPUS);
    assert!(asked(&seeing, "cuda:0").contains("but there is no CUDA compiler: install the CUDA toolkit"));
}

#[test]
fn a_gpu_that_is_not_there_ends_it_before_anything_is_built() {
    let lab = Machine::new("nothing").lab("prepare", &[("PELLUCID_DEVICE", "cuda:0")]);
    let said = String::from_utf8_lossy(&lab.stderr);
    assert!(!lab.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.contains("PELLUCID_DEVICE asks for `cuda:0`, but `nvidia-smi -L` lists no NVIDIA GPU"), "{said}");
}
