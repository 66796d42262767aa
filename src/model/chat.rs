//! Conversations, written the way a checkpoint was trained to read them.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What somebody says in a conversation.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.chat(&[Message::user("Where is the lamp?")])?;
/// assert!(prompt.source().ends_with("[INST] Where is the lamp? [/INST]"));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who: `system`, `user` or `assistant`.
    pub role: String,
    /// What.
    pub content: String,
}

impl Message {
    /// Instructions to the model.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.chat(&[Message::system("Be brief."), Message::user("Where is the lamp?")])?;
    /// assert!(prompt.source().contains("<<SYS>>\nBe brief.\n<</SYS>>\n\nWhere is the lamp?"));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn system(content: &str) -> Self {
        Self { role: "system".into(), content: content.into() }
    }

    /// What the user says.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Message::user("Where is the lamp?").role, "user");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn user(content: &str) -> Self {
        Self { role: "user".into(), content: content.into() }
    }

    /// What the model said before.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let [asked, said] = [Message::user("Where is the lamp?"), Message::assistant("In the bedroom.")];
    /// let prompt = llm.chat(&[asked, said, Message::user("And the ladder?")])?;
    /// assert!(prompt.source().contains("[/INST] In the bedroom.</s>"));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn assistant(content: &str) -> Self {
        Self { role: "assistant".into(), content: content.into() }
    }
}

/// A checkpoint's chat template: a program in Jinja, and the names of the tokens it may use.
#[derive(Clone, Debug)]
pub(crate) struct ChatTemplate {
    source: String,
    tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// A template, with `tokenizer_config.json`, which names the tokens `bos_token`, `eos_token`, ….
    pub fn new(source: String, config: &serde_json::Value) -> Self {
        let text = |value: &serde_json::Value| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
        let named = config.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
        Self { source, tokens: named.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect() }
    }

    /// The conversation as text, up to where the model's answer begins. Templates that would write today's date
    /// (`strftime_now`) write the one they have for want of it, so that a prompt is the same tomorrow.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let mut engine = Environment::new();
        engine.set_syntax(syntax.map_err(Error::argument)?);
        engine.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        engine.add_function("raise_exception", |reason: String| -> std::result::Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
        });
        let refused = |error: minijinja::Error| {
            Error::argument(format!("the checkpoint's chat template refuses these messages: {error}"))
        };
        let tokens = self.tokens.iter().map(|(name, token)| (name.clone(), Value::from(token.clone())));
        let named = [
            ("messages".to_string(), Value::from(Serde(messages))),
            ("add_generation_prompt".to_string(), Value::from(true)),
        ];
        let context = Value::from_pairs(named.into_iter().chain(tokens));
        engine.render_str(&self.source, context).map_err(refused)
    }
}
