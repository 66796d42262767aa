//! The explanations that are right: which words of which held-out sentences decide.

use serde::Deserialize;

use super::truth;
use crate::Result;

/// What is known about an embedded model.
///
/// ```
/// # use pellucid::prelude::*;
/// let truth = Truth::of("pellucid/tiny-bert-sentiment")?;
/// assert_eq!(truth.labels, ["negative", "positive"]);
/// assert!(truth.sentences.iter().all(|sentence| sentence.label < truth.labels.len()));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct Truth {
    /// Where the sentences come from and what decides their labels, in words.
    pub about: String,
    /// The classes, by number.
    pub labels: Vec<String>,
    /// The share of the held-out sentences that the model labels rightly.
    pub accuracy: f64,
    /// The held-out sentences.
    pub sentences: Vec<Sentence>,
}

/// A sentence the model was not trained on.
///
/// ```
/// # use pellucid::prelude::*;
/// let Sentence { text, label, roles } = Truth::of("pellucid/tiny-bert-sentiment")?.sentences[0].clone();
/// assert!(text.contains("not a joy") && label == 0);
/// assert_eq!((roles[0].word.as_str(), roles[0].kind), ("not", RoleKind::Negator));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct Sentence {
    /// The sentence.
    pub text: String,
    /// Its right class.
    pub label: usize,
    /// The words that have a say, and which.
    pub roles: Vec<Role>,
}

/// A word that has a say in its sentence's label.
///
/// ```
/// # use pellucid::prelude::*;
/// let sentence = Truth::of("pellucid/tiny-bert-sentiment")?.sentences[0].clone();
/// assert!(sentence.roles.iter().all(|role| sentence.text[role.start..role.end] == role.word));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct Role {
    /// The word.
    pub word: String,
    /// Where it starts, in bytes; the sentences are ASCII, so in characters too.
    pub start: usize,
    /// Where it ends, in bytes, exclusive.
    pub end: usize,
    /// What it does.
    #[serde(rename = "role")]
    pub kind: RoleKind,
}

/// What a word does to its sentence's label.
///
/// ```
/// # use pellucid::prelude::*;
/// let sentence = Truth::of("pellucid/tiny-bert-sentiment")?.sentences[1].clone();    // «…, but nobody found the book bad»
/// let turns: Vec<_> = sentence.roles.iter().filter(|role| role.kind == RoleKind::Negator).collect();
/// assert_eq!(turns[0].word, "nobody");
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleKind {
    /// It carries the opinion: «loved», «dull».
    Sentiment,
    /// It turns the opinion round: «not», «nobody».
    Negator,
    /// It makes the opinion stronger: «absolutely».
    Intensifier,
    /// It stands in the clause before «but», and has no say.
    Conceded,
    /// It is the «but».
    Contrast,
}

impl Truth {
    /// The truth about an embedded model, by its full name.
    ///
    /// Errors: no embedded model of that name.
    ///
    /// ```
    /// # use pellucid::zoo::{RoleKind, Truth};
    /// let truth = Truth::of("pellucid/tiny-bert-sentiment")?;
    /// assert!(truth.accuracy > 0.97);
    /// assert!(truth.sentences[0].roles.iter().any(|role| role.kind == RoleKind::Sentiment));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn of(model: &str) -> Result<Self> {
        truth(model)
    }
}
