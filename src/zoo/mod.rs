//! Tiny trained models inside the crate, in the file formats of the real ones, with the explanations that are right.
//!
//! | name | what it does | trained on |
//! |---|---|---|
//! | `pellucid/tiny-bert-sentiment` | says whether a review is positive or negative | sentences of a small grammar |

mod truth;

pub use truth::{Role, RoleKind, Sentence, Truth};

use crate::{Error, Result};

type Files = &'static [(&'static str, &'static [u8])];

/// The files of every embedded model.
const MODELS: &[(&str, Files)] = &[(
    "tiny-bert-sentiment",
    &[
        ("config.json", include_bytes!("tiny-bert-sentiment/config.json")),
        ("model.safetensors", include_bytes!("tiny-bert-sentiment/model.safetensors")),
        ("tokenizer.json", include_bytes!("tiny-bert-sentiment/tokenizer.json")),
        ("tokenizer_config.json", include_bytes!("tiny-bert-sentiment/tokenizer_config.json")),
        ("truth.json", include_bytes!("tiny-bert-sentiment/truth.json")),
    ],
)];

/// The files of one embedded model, by its name without `pellucid/`.
pub(crate) fn files(name: &str) -> Result<Files> {
    let known = || MODELS.iter().map(|(name, _)| format!("pellucid/{name}")).collect::<Vec<_>>().join(", ");
    let found = MODELS.iter().find(|model| model.0 == name).map(|model| model.1);
    found.ok_or_else(|| Error::NotFound(format!("no embedded model is called `pellucid/{name}`; there is {}", known())))
}
