//! What a notebook sees: pellucid, its prelude, and the candle it computes with.

pub use pellucid;
pub use pellucid::candle_core;
pub use pellucid::prelude::*;

/// Readies the kernel; a chapter's first cell ends with `let kernel = init()?;`.
pub fn init() -> pellucid::Result<pellucid::kernel::Kernel> {
    pellucid::kernel::init()
}
