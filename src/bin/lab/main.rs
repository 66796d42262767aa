//! `cargo lab`: the course on your machine.
//!
//! Everything it installs goes into the folder `.lab` of the checkout: JupyterLab, the Rust kernel, and pellucid compiled
//! for that kernel, on the [`device`] that the machine has. [`steps`] is the plan, [`jupyter`], [`weights`], [`kernel`] and
//! [`warm`] are its steps; [`register`] tells Jupyter about the kernel, and [`launch`] becomes one, in a folder of the [`pool`];
//! [`chapters`] executes the course, or writes it for a class.

mod chapters;
mod device;
mod jupyter;
mod kernel;
mod launch;
mod machine;
mod place;
mod pool;
mod process;
mod register;
mod steps;
mod warm;
mod weights;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use place::Lab;

/// The course on your machine: JupyterLab with a Rust kernel in which pellucid is ready.
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Open JupyterLab on the notebooks (also what happens without a command)
    Open {
        /// Handed on to JupyterLab, for example `--no-browser --port 9999`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        jupyter: Vec<String>,
    },
    /// Install what is missing and stop there
    Prepare,
    /// Say what notebooks compute on, and why
    Device,
    /// Execute chapters in the Rust kernel; the first cell that fails ends it
    Run {
        /// With every exercise solved: an answer key that runs, in .lab/out
        #[arg(long)]
        solved: bool,
        /// Chapters (`01` is enough for 01_integrated_gradients) or Markdown files; all chapters when none is named
        names: Vec<String>,
    },
    /// Execute chapters and write them, outputs included, to notebooks/
    Build {
        /// As for `run`
        names: Vec<String>,
    },
    /// Write the chapters for a class, without outputs: clean, exercises (without solutions), answers (solved)
    HandOut {
        /// The folder to write to
        folder: PathBuf,
    },
    /// What Jupyter calls to start a kernel
    #[command(hide = true)]
    Kernel { connection_file: PathBuf },
}

fn main() -> ExitCode {
    let task = Arguments::parse().command;
    let open = Task::Open { jupyter: Vec::new() };
    match perform(task.unwrap_or(open)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    let lab = Lab::here()?;
    let ready = || steps::prepare(&lab);
    match task {
        Task::Open { jupyter } => ready().and_then(|()| jupyter::open(&lab, &jupyter)),
        Task::Prepare => ready(),
        Task::Device => device::choose().map(|device| println!("{device}")),
        Task::Run { names, solved: false } => execute(&lab, &names, &[]),
        Task::Run { names, solved: true } => execute(&lab, &names, &["--solved"]),
        Task::Build { names } => execute(&lab, &names, &["--build"]),
        Task::HandOut { folder } => ready().and_then(|()| chapters::hand_out(&lab, &folder)),
        Task::Kernel { connection_file } => launch::become_kernel(&lab, &connection_file),
    }
}

/// Chapters are looked up first: nothing that takes minutes is begun for one that is not there.
fn execute(lab: &Lab, names: &[String], options: &[&str]) -> Result<()> {
    let chapters = chapters::named(lab, names)?;
    steps::prepare(lab)?;
    chapters::run(lab, &chapters, options)
}
