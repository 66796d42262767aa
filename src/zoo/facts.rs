//! What is known about the embedded language models: which words, and which sentences, decide what they say.

use serde::Deserialize;

use super::truth;
use crate::Result;

/// What is known about an embedded language model.
#[derive(Clone, Debug, Deserialize)]
pub struct Facts {
    /// Where the texts come from and what decides their continuations, in words.
    pub about: String,
    /// Biographies the model was not trained on.
    pub biographies: Vec<Biography>,
    /// Questions about a context, likewise.
    pub questions: Vec<Question>,
}

/// The beginning of somebody's life, and how it goes on.
#[derive(Clone, Debug, Deserialize)]
pub struct Biography {
    /// The beginning.
    pub prompt: String,
    /// What the model says next.
    pub continuation: String,
    /// Whether the city lies in that state.
    pub real_place: bool,
    /// The parts of the continuation that are decided by a word of the prompt.
    pub spans: Vec<Decided>,
}

/// A part of a continuation, and the words of the prompt that decide it.
#[derive(Clone, Debug, Deserialize)]
pub struct Decided {
    /// The part.
    pub text: String,
    /// Where it starts in the continuation, in bytes.
    pub start: usize,
    /// Where it ends, in bytes, exclusive.
    pub end: usize,
    /// What decides it: `profession`, `city`, `state` or `name`.
    pub slot: String,
    /// The words that decide it.
    pub decided_by: Vec<Deciding>,
}

/// A word, or two, of a prompt that decide something.
#[derive(Clone, Debug, Deserialize)]
pub struct Deciding {
    /// The word.
    pub word: String,
    /// Where it starts in the prompt, in bytes.
    pub start: usize,
    /// Where it ends, in bytes, exclusive.
    pub end: usize,
}

/// A question that one sentence of a context answers, as it should be answered: the models do so in about seven of ten.
#[derive(Clone, Debug, Deserialize)]
pub struct Question {
    /// The sentences.
    pub context: Vec<String>,
    /// The question.
    pub question: String,
    /// Its answer.
    pub answer: String,
    /// The number of the sentence that answers it.
    pub deciding_sentence: usize,
}

impl Facts {
    /// The facts about an embedded language model, by its full name.
    ///
    /// Errors: no embedded language model of that name.
    ///
    /// ```
    /// # use pellucid::zoo::Facts;
    /// let facts = Facts::of("pellucid/tiny-llama-facts")?;
    /// assert_eq!(facts.biographies[0].spans[1].decided_by[0].word, "Austin");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn of(model: &str) -> Result<Self> {
        truth(model)
    }
}
