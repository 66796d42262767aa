//! The open transformer: forwards that can be walked back to their input, and looked into.

pub mod blocks;
pub mod hook;
pub mod parts;
pub mod text;

mod bert;
mod chat;
mod checkpoint;
mod decoder;
mod embedding;
mod gguf;
mod hub;
mod weights;

pub use bert::Bert;
pub use chat::Message;
pub use checkpoint::{Checkpoint, Load};
pub use decoder::{CausalLm, Sampling};
pub use embedding::Baseline;
