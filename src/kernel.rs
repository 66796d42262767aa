//! Running inside a notebook's Rust kernel.
//!
//! evcxr links every cell into a library of its own. Linked statically, each cell has its own copy of candle's counter
//! behind `TensorId`; tensors made in different cells get equal numbers, and gradients are silently those of other tensors.
//! The notebooks therefore depend on one shared library, `notebooks/prelude`, and this module refuses to compute
//! gradients when it finds itself linked more than once into a process.

use std::sync::Once;

use crate::{Error, Result};

/// Where this copy of the crate lives in memory: a second copy lives elsewhere.
static MARK: u8 = 0;

const MARK_VARIABLE: &str = "PELLUCID_LINKED_AT";

/// A kernel that is fit for gradients.
///
/// ```
/// # use pellucid::prelude::*;
/// let kernel = pellucid::kernel::init()?;
/// assert!(kernel.threads > 0);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Threads that share the work.
    pub threads: usize,
}

/// Makes a notebook ready: checks that all cells share this library, and turns a panic's backtrace into one line.
///
/// Errors: [`Error::StaticallyLinked`].
///
/// ```
/// # use pellucid::prelude::*;
/// let kernel = pellucid::kernel::init()?;
/// println!("{} threads", kernel.threads);
/// # assert!(kernel.threads > 0);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn init() -> Result<Kernel> {
    guard()?;
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}\n(variables this cell made or moved are lost; everything else is still there)");
    }));
    Ok(Kernel { threads: rayon::current_num_threads() })
}

/// Whether this process is a notebook kernel.
pub(crate) fn in_notebook() -> bool {
    std::env::var_os("EVCXR_IS_RUNTIME").is_some()
}

/// Errors if another copy of this crate has been linked into the notebook's process.
pub(crate) fn guard() -> Result<()> {
    if !in_notebook() {
        return Ok(());
    }
    static ONCE: Once = Once::new();
    let process = std::process::id();
    let here = format!("{process}:{}", &raw const MARK as usize);
    ONCE.call_once(|| {
        let elsewhere = std::env::var(MARK_VARIABLE).is_ok_and(|mark| mark.starts_with(&format!("{process}:")));
        if !elsewhere {
            // SAFETY: a kernel runs one cell at a time, and the first cell that uses the crate comes here, once, before
            // it has started any thread that could read the environment.
            unsafe { std::env::set_var(MARK_VARIABLE, &here) };
        }
    });
    match std::env::var(MARK_VARIABLE) {
        Ok(mark) if mark == here => Ok(()),
        _ => Err(Error::StaticallyLinked),
    }
}
