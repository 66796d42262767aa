//! The open transformer: forwards that can be walked back to their input, and looked into.

pub mod blocks;
pub mod hook;
pub mod text;

mod bert;
mod checkpoint;
mod hub;
mod weights;

pub use bert::{Baseline, Bert};
pub use checkpoint::{Checkpoint, Load};
