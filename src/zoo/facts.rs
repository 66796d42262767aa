//! What is known about the embedded language models: which words, and which sentences, decide what they say.

use serde::Deserialize;

use super::truth;
use crate::Result;

/// What is known about an embedded language model.
///
/// ```
/// # use pellucid::prelude::*;
/// let facts = Facts::of("pellucid/tiny-llama-facts")?;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let Biography { prompt, continuation, .. } = &facts.biographies[0];
/// assert_eq!(llm.generate(&llm.read(prompt)?, &Sampling::greedy(40))?.text(), continuation);
/// # Ok::<(), pellucid::Error>(())
/// ```
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
///
/// ```
/// # use pellucid::prelude::*;
/// let Biography { prompt, spans, .. } = Facts::of("pellucid/tiny-llama-facts")?.biographies[0].clone();
/// let city = spans.iter().find(|span| span.slot == "city").unwrap();
/// assert!(prompt.contains(&city.decided_by[0].word));
/// # Ok::<(), pellucid::Error>(())
/// ```
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
///
/// ```
/// # use pellucid::prelude::*;
/// let Biography { continuation, spans, .. } = Facts::of("pellucid/tiny-llama-facts")?.biographies[0].clone();
/// let Decided { text, start, end, slot, .. } = &spans[0];
/// assert_eq!((&continuation[*start..*end], slot.as_str()), (text.as_str(), "profession"));
/// # Ok::<(), pellucid::Error>(())
/// ```
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
///
/// ```
/// # use pellucid::prelude::*;
/// let Biography { prompt, spans, .. } = Facts::of("pellucid/tiny-llama-facts")?.biographies[0].clone();
/// let word = &spans[1].decided_by[0];
/// assert_eq!(prompt[word.start..word.end], word.word);
/// # Ok::<(), pellucid::Error>(())
/// ```
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
///
/// ```
/// # use pellucid::prelude::*;
/// let asked = &Facts::of("pellucid/tiny-llama-facts")?.questions[0];
/// assert_eq!(asked.context[asked.deciding_sentence], asked.answer);
/// # Ok::<(), pellucid::Error>(())
/// ```
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
