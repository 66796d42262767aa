//! The plan: what is installed, how long it takes, whether it is there already.

use std::fs::File;

use anyhow::{Context, Result};

use crate::machine::{self, Machine};
use crate::place::Lab;
use crate::register::register;
use crate::{jupyter, kernel, warm, weights};

/// One thing to install. A step is done when its stamp, written last, tells of today's recipe; everything else,
/// an interrupted step too, is made again.
struct Step {
    what: &'static str,
    costs: &'static str,
    is_done: fn(&Lab, &Machine) -> bool,
    make: fn(&Lab, &Machine) -> Result<()>,
}

const STEPS: [Step; 5] = [
    Step {
        what: "Rust's own sources, which the kernel reads to infer types (`rustup component add rust-src`)",
        costs: "10 s, 50 MB",
        is_done: |_, _| kernel::has_rust_sources(),
        make: |_, _| kernel::add_rust_sources(),
    },
    Step {
        what: "JupyterLab 4.6.6 in a Python environment of its own (what else was installed in .lab/python goes)",
        costs: "1 minute, 400 MB",
        is_done: jupyter::is_installed,
        make: jupyter::install,
    },
    Step {
        what: "the published sentence model all-MiniLM-L6-v2",
        costs: "10 s, 90 MB",
        is_done: |lab, _| weights::are_here(lab),
        make: |lab, _| weights::fetch(lab),
    },
    Step {
        what: "the Rust kernel evcxr_jupyter 0.22.0, compiled from source",
        costs: "6-12 minutes, 35 MB",
        is_done: |lab, _| kernel::is_installed(lab),
        make: |lab, _| kernel::install(lab),
    },
    Step {
        what: "pellucid, compiled for the kernel",
        costs: "3-6 minutes, 1.1 GB (for a GPU a quarter of an hour more)",
        is_done: warm::is_warm,
        make: warm::warm,
    },
];

/// What is not in the folder: the rest goes with it.
const WHAT_STAYS: &str = "Deleting .lab removes all of it again, except what all your projects share, Rust's sources and the crates \
that cargo downloads,\nand, where the path of .lab has a space, the folder in ~/.cache/pellucid that .lab/kernels links to.";

/// Makes whatever is missing; on a ready machine it only looks.
pub fn prepare(lab: &Lab) -> Result<()> {
    let machine = machine::look()?;
    eprintln!("{}", machine.device);
    let _one_at_a_time = alone(lab)?;
    let missing: Vec<&Step> = STEPS.iter().filter(|step| !(step.is_done)(lab, &machine)).collect();
    announce(&missing);
    for step in missing {
        (step.make)(lab, &machine)?;
    }
    register(lab, &machine.device)
}

/// Says what is going to happen before anything does.
fn announce(missing: &[&Step]) {
    if missing.is_empty() {
        return;
    }
    eprintln!("To be installed, once, into the folder .lab:");
    for step in missing {
        eprintln!("  - {}: {}", step.what, step.costs);
    }
    eprintln!("{WHAT_STAYS}");
    eprintln!("You may interrupt with Ctrl-C: the next start goes on from there.\n");
}

/// Two `cargo lab` at once would build over each other: the second waits until the file is dropped.
fn alone(lab: &Lab) -> Result<File> {
    std::fs::create_dir_all(&lab.home).with_context(|| format!("making {}", lab.home.display()))?;
    let file = File::create(lab.at("lock")).with_context(|| format!("writing to {}", lab.home.display()))?;
    if file.try_lock().is_err() {
        eprintln!("another `cargo lab` is preparing this folder; waiting for it …");
        file.lock()?;
    }
    Ok(file)
}
