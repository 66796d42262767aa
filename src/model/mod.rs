//! The open transformer: forwards that can be walked back to their input, and looked into.
//!
//! ```
//! # use pellucid::prelude::*;
//! let bert = Bert::load("pellucid/tiny-bert-sentiment")?;                // embedded, a folder, or a hub id
//! let text = bert.read("I absolutely loved the movie!")?;
//! let x = bert.embed(&text)?.unsqueeze(0)?;                              // (1,t,c)
//! let positive = Target::Logit(bert.label("positive")?);
//! let slope = grad_at(|x| positive.of(&bert.logits(&text, x)?), &x)?;    // walked back to the input
//! let mut record = Record::new(&[Site::Pattern(0)]);
//! bert.logits_hooked(&text, &x, &mut record)?;                           // and looked into
//! assert_eq!((slope.dims(), record.get(Site::Pattern(0))?.dim(1)?), (x.dims(), 4));
//! # Ok::<(), pellucid::Error>(())
//! ```

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
