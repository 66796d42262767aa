//! The open transformer: forwards that can be walked back to their input, and looked into.

pub mod blocks;
pub mod hook;
pub mod parts;
pub mod text;

mod bert;
mod chat;
mod checkpoint;
mod clip;
mod decoder;
mod embedding;
mod encoder;
mod gguf;
mod hub;
mod image;
mod labels;
mod mixer;
mod patches;
mod presence;
mod processor;
mod pytorch;
mod qwen2_vl;
mod qwen_vl;
mod rules;
mod split;
mod tiktoken;
mod visual_prompt;
mod vit;
mod vlm;
mod weights;

pub use bert::Bert;
pub use chat::Message;
pub use checkpoint::{Checkpoint, Load};
pub use clip::{Clip, Prompts};
pub use decoder::{CausalLm, Sampling};
pub use embedding::Baseline;
pub use image::Image;
pub use mixer::Mixer;
pub use patches::{Patches, Vision};
pub(crate) use presence::presence;
pub use processor::Processor;
pub use rules::{Product, Rule, Rules};
pub use visual_prompt::VisualPrompt;
pub use vit::Vit;
pub use vlm::Vlm;
pub use weights::Shuffle;
