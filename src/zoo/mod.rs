//! Tiny trained models inside the crate, in the file formats of the real ones, with the explanations that are right. And a few photographs.
//!
//! | name | what it does | trained on |
//! |---|---|---|
//! | `pellucid/tiny-bert-sentiment` | says whether a review is positive or negative | sentences of a small grammar |
//! | `pellucid/tiny-llama-facts` | continues short biographies and answers questions; the city decides the second hobby | texts of a small grammar |
//! | `pellucid/tiny-qwen-facts` | the same with another vocabulary; the state decides the second hobby | the same with states for cities |
//! | `pellucid/tiny-vit-shapes` | says which of six shapes are in a picture | drawn scenes of up to three objects |
//! | `pellucid/tiny-clip-shapes` | says how well captions such as «a red circle» fit a picture | drawn scenes and captions |
//! | `pellucid/tiny-vlm-shapes` | answers «What is in the image?» and «What colour is the square?»; knows the sky is blue | drawn scenes and questions |
//!
//! ```
//! # use pellucid::prelude::*;
//! let truth = Truth::of("pellucid/tiny-bert-sentiment")?;
//! let Sentence { text, label, .. } = &truth.sentences[0];
//! let said = Bert::load("pellucid/tiny-bert-sentiment")?;
//! assert_eq!(said.predict(&said.read(text)?)?[0].0, truth.labels[*label]);
//! # Ok::<(), pellucid::Error>(())
//! ```

mod drawing;
mod facts;
mod photos;
mod scenes;
mod truth;

use serde::de::DeserializeOwned;

pub use facts::{Biography, Decided, Deciding, Facts, Question};
pub use photos::photo;
pub use scenes::{Colour, Object, Scene, Scenes, Shape};
pub use truth::{Role, RoleKind, Sentence, Truth};

use crate::{Error, Result};

type Files = &'static [(&'static str, &'static [u8])];

/// An embedded model: its name, and its files by name.
macro_rules! model {
    ($name:literal: $($file:literal),+) => {
        ($name, &[$(($file, include_bytes!(concat!($name, "/", $file)))),+])
    };
}

/// The files of every embedded model.
const MODELS: &[(&str, Files)] = &[
    model!("tiny-bert-sentiment": "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "truth.json"),
    model!("tiny-llama-facts": "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
           "chat_template.jinja", "generation_config.json", "truth.json"),
    model!("tiny-qwen-facts": "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
           "chat_template.jinja", "generation_config.json", "truth.json"),
    model!("tiny-vit-shapes": "config.json", "model.safetensors", "preprocessor_config.json", "truth.json"),
    model!("tiny-clip-shapes": "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
           "preprocessor_config.json", "truth.json"),
    model!("tiny-vlm-shapes": "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
           "chat_template.jinja", "generation_config.json", "preprocessor_config.json", "truth.json"),
];

/// The files of one embedded model, by its name without `pellucid/`.
pub(crate) fn files(name: &str) -> Result<Files> {
    let known = || MODELS.iter().map(|(name, _)| format!("pellucid/{name}")).collect::<Vec<_>>().join(", ");
    let found = MODELS.iter().find(|model| model.0 == name).map(|model| model.1);
    found.ok_or_else(|| Error::NotFound(format!("no embedded model is called `pellucid/{name}`; there is {}", known())))
}

/// What is known about an embedded model, by its full name.
///
/// Errors: no embedded model is called so; of this one, other things are known.
fn truth<T: DeserializeOwned>(model: &str) -> Result<T> {
    let name = model.strip_prefix("pellucid/").unwrap_or(model);
    truth_in(files(name)?).ok_or_else(|| {
        let known = MODELS.iter().filter(|model| truth_in::<T>(model.1).is_some());
        let known = known.map(|model| format!("pellucid/{}", model.0)).collect::<Vec<_>>().join(", ");
        Error::NotFound(format!("of `pellucid/{name}` other things are known; these are of {known}"))
    })
}

fn truth_in<T: DeserializeOwned>(files: Files) -> Option<T> {
    let truth = files.iter().find(|file| file.0 == "truth.json")?;
    serde_json::from_slice(truth.1).ok()
}
