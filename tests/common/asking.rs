//! Questions about a context.

use pellucid::prelude::*;

/// A question about any context, as the embedded language models were taught to read it.
pub fn asking<'a>(llm: &'a CausalLm, question: &'a str) -> impl Fn(&str) -> Result<Text> + Copy + 'a {
    move |context| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: {question}"))])
}
