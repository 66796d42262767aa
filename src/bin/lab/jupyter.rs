//! JupyterLab, in a Python environment of its own.

use std::process::Command;

use anyhow::Result;

use crate::machine::Machine;
use crate::place::{self, Lab};
use crate::process::{turn_into, watch};

const REQUIREMENTS: &str = "notebooks/requirements.txt";

/// Where Jupyter keeps what it writes.
pub const FOLDERS: [(&str, &str); 4] = [
    ("JUPYTER_CONFIG_DIR", "jupyter/config"),
    ("JUPYTER_DATA_DIR", "jupyter/data"),
    ("JUPYTER_RUNTIME_DIR", "jupyter/runtime"),
    ("IPYTHONDIR", "jupyter/ipython"),
];

pub fn is_installed(lab: &Lab, machine: &Machine) -> bool {
    recipe(lab, machine).is_ok_and(|recipe| place::stamped(&lab.at("python/stamp"), &recipe))
}

/// Starts from an empty folder always: half an environment is not worth mending.
pub fn install(lab: &Lab, machine: &Machine) -> Result<()> {
    let home = lab.at("python");
    place::remove(&home)?;
    watch("Python environment", Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    watch("JupyterLab", pip(lab).arg("-r").arg(lab.root.join(REQUIREMENTS)))?;
    place::remove(&lab.at("downloads"))?;
    place::write(&home.join("stamp"), &recipe(lab, machine)?)
}

/// An environment knows its own path and Python, so they are part of its recipe.
fn recipe(lab: &Lab, machine: &Machine) -> Result<String> {
    Ok(format!("{}\n{}\n{}", lab.home.display(), machine.python, lab.read(REQUIREMENTS)?))
}

/// `pip install …` in our environment; what it has downloaded survives an interruption.
pub fn pip(lab: &Lab) -> Command {
    let mut pip = python(lab);
    pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]);
    pip.arg("--cache-dir").arg(lab.at("downloads"));
    pip
}

/// Our Python, in which Jupyter reads and writes nothing outside `.lab`.
pub fn python(lab: &Lab) -> Command {
    let mut python = Command::new(lab.at("python/bin/python"));
    for (variable, folder) in FOLDERS {
        python.env(variable, lab.at(folder));
    }
    for variable in ["JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "JUPYTERLAB_DIR", "PYTHONPATH", "PYTHONHOME"] {
        python.env_remove(variable);
    }
    python
}

/// Becomes JupyterLab, so that Ctrl-C and its question reach nobody else.
pub fn open(lab: &Lab, arguments: &[String]) -> Result<()> {
    let mut jupyter = python(lab);
    let kernel = "--MultiKernelManager.default_kernel_name=pellucid";
    // in a container the user is often root; whoever may start the server may also use it
    jupyter.args(["-m", "jupyterlab", kernel, "--allow-root", "--notebook-dir"]).arg(lab.notebooks()).args(arguments);
    turn_into(&mut jupyter)
}
