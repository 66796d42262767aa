//! Causal language models: a stack of pre-norm decoder blocks with rotary embeddings.
//!
//! Llama (Touvron et al. 2023, arXiv 2302.13971) and its relatives Mistral, Qwen2, Qwen2.5 and Qwen3. A block is
//! x ← x + Attention(norm(x)), x ← x + FFN(norm(x)). What differs between them (biases, norms of queries and keys, tied
//! embeddings) is seen from the weights.

mod config;
mod generate;
mod prefix;

use std::sync::Arc;

pub(super) use self::config::Config;
use self::config::OneOrMany;
pub use self::generate::Sampling;
pub(super) use self::prefix::{Past, Places};
use super::blocks::{Attention, Chain, Gate, HeadNorm, Linear, LogProbability, RmsNorm, Rope, Stage};
use super::chat::{ChatTemplate, Message};
use super::checkpoint::{Checkpoint, Load};
use super::embedding::{Baseline, Embedding};
use super::encoder::Block;
use super::hook::{Clear, Hook, Record, Site, check_sites};
use super::parts::Parts;
use super::rules::Rules;
use super::text::{Continuation, Text, Tokenizer, fit};
use super::weights::Weights;
use crate::tensor::{finite, numbers};
use crate::{Error, Result};
use candle_core::{D, DType, IndexOp, Tensor};

/// A causal language model of any size: Llama 2 and 3, Mistral, Qwen2, Qwen2.5, Qwen3, in safetensors or GGUF.
///
/// Cheap to clone. A forward takes token embeddings `(n,t,c)`, so that they can be interpolated, ablated and
/// differentiated. Where no gradient is asked for, what n variants of one text share at their beginning is computed once.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Michael works as a software engineer in Austin, Texas. In his free time, he enjoys")?;
/// let said = llm.generate(&prompt, &Sampling::greedy(40))?;
/// assert_eq!(said.text(), " painting, traveling to different countries, and volunteering at community events.");
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone)]
pub struct CausalLm(Arc<Model>);

#[derive(Clone)]
struct Model {
    name: String,
    kind: String,
    config: Config,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    words: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    vocabulary: Linear,
    /// Whether the vocabulary is the embeddings' matrix.
    tied: bool,
    end_of_text: Vec<u32>,
    rules: Rules,
}

impl std::fmt::Debug for CausalLm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { num_hidden_layers, num_attention_heads, hidden_size, vocab_size, .. } = &self.0.config;
        let (name, kind, mebibytes) = (&self.0.name, &self.0.kind, self.bytes() as f64 / 1_048_576.0);
        write!(f, "{name}: {kind}, causal language model, {num_hidden_layers} layers × {num_attention_heads} heads, ")?;
        write!(f, "{hidden_size} channels, {vocab_size} tokens, {mebibytes:.1} MiB of weights")
    }
}

impl CausalLm {
    /// An embedded model (`"pellucid/tiny-llama-facts"`), a folder, a GGUF file, or a hub id
    /// (`"Qwen/Qwen2.5-1.5B-Instruct"`, `"Qwen/Qwen2.5-1.5B-Instruct-GGUF/qwen2.5-1.5b-instruct-q4_k_m.gguf"`).
    ///
    /// Errors: see [`Checkpoint::open`]; another architecture; files that are missing, broken or do not fit together.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// assert!(format!("{llm:?}").contains("causal language model"));    // with its layers, heads and size
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load(source: &str) -> Result<Self> {
        Self::load_with(source, &Load::default())
    }

    /// The same at another revision or precision, or on another device.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load_with("pellucid/tiny-llama-facts", &Load::f64())?;
    /// assert_eq!(llm.embed(&llm.read("Nancy works")?)?.dtype(), DType::F64);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load_with(source: &str, load: &Load) -> Result<Self> {
        let checkpoint = Checkpoint::open(source, load)?;
        let known = "causal language models of the kinds `llama`, `mistral`, `qwen`, `qwen2` and `qwen3`";
        let kind = checkpoint.kind(&["llama", "mistral", "qwen", "qwen2", "qwen3"], known)?;
        let names = if kind == "qwen" { &QWEN } else { &LLAMA };
        Self::of(&checkpoint, kind, Config::of(&checkpoint)?, names)
    }

    /// The language model of a checkpoint, whatever else is in it.
    pub(super) fn of(checkpoint: &Checkpoint, kind: String, config: Config, names: &Names) -> Result<Self> {
        let broken = |problem: &dyn std::fmt::Display| Error::file(checkpoint.place("config.json"), problem);
        if let Some(problem) = config.problem() {
            return Err(broken(&problem));
        }
        let weights = prefixed(checkpoint.weights()?, names);
        let rope = config.rope(rope_factors(&weights, &config)?).map_err(|error| broken(&error))?;
        let words = weights.embedding(names.words, config.vocab_size, config.hidden_size)?;
        let (vocabulary, tied) = vocabulary(&weights, &words, &config).map_err(|error| checkpoint.at_fault(error))?;
        let tokenizer = checkpoint.tokenizer()?;
        let model = Model {
            name: checkpoint.name().into(),
            kind,
            template: checkpoint.chat_template()?,
            blocks: blocks(&weights, names, &config, rope).map_err(|error| checkpoint.at_fault(error))?,
            norm: weights.rms_norm(names.norm, config.hidden_size, config.rms_norm_eps)?,
            vocabulary,
            tied,
            end_of_text: end_of_text(checkpoint, &config, &tokenizer)?,
            tokenizer,
            rules: Rules::exact(),
            words,
            config,
        };
        Ok(Self(Arc::new(model)))
    }

    /// The same model, walked back by other rules: what it says stays the same, and every method of this crate explains it by
    /// them. Cheap: weights are shared.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let x = llm.embed(&llm.read("In her free time, she enjoys")?)?.unsqueeze(0)?;
    /// let gap = (llm.under(Rules::attn_lrp()).logits(&x)? - llm.logits(&x)?)?.abs()?.max_all()?;
    /// assert_eq!(gap.to_scalar::<f32>()?, 0.0);    // the values stay
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn under(&self, rules: Rules) -> Self {
        let blocks = self.0.blocks.iter().map(|block| block.under(rules)).collect();
        Self(Arc::new(Model { blocks, rules, ..(*self.0).clone() }))
    }

    /// A prompt as the model reads it, with the tokens that its tokenizer puts in front.
    ///
    /// Errors: not UTF-8; empty; longer than the model's context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer")?;
    /// assert!(prompt.tokens()[0].special && prompt.tokens()[0].text == "<s>");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn read(&self, text: impl AsRef<[u8]>) -> Result<Text> {
        self.fitting(self.0.tokenizer.read(text)?)
    }

    /// A conversation as the checkpoint's chat template writes it, up to where the model's answer begins.
    ///
    /// Errors: the checkpoint has no chat template; the template refuses these messages; longer than the context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.chat(&[Message::user("Where is the lamp?")])?;
    /// assert!(prompt.source().ends_with("[INST] Where is the lamp? [/INST]"));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn chat(&self, messages: &[Message]) -> Result<Text> {
        let none = || {
            Error::argument(format!(
                "`{}` has no chat template, so it was not trained to converse: use `read` with plain text, or load the \
                 model's «Instruct» or «Chat» version",
                self.0.name
            ))
        };
        let prompt = self.written(messages)?.ok_or_else(none)?;
        self.fitting(self.0.tokenizer.read_plain(prompt)?)
    }

    /// A conversation as text; `None` if the checkpoint has no chat template.
    pub(super) fn written(&self, messages: &[Message]) -> Result<Option<String>> {
        self.0.template.as_ref().map(|template| template.render(messages)).transpose()
    }

    fn fitting(&self, text: Text) -> Result<Text> {
        self.fits(text.len())?;
        Ok(text)
    }

    /// Whether so many tokens are read with other frequencies than fewer are.
    pub(super) fn stretches(&self, tokens: usize) -> bool {
        self.0.config.stretches(tokens)
    }

    /// Errors if so many tokens are longer than the context.
    pub(super) fn fits(&self, tokens: usize) -> Result<()> {
        fit(tokens, self.0.config.positions())
    }

    /// A text that might follow a prompt, to be explained.
    ///
    /// Errors: empty; text that the vocabulary cannot express; prompt and continuation longer than the context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
    /// let said = llm.continuation(&prompt, " painting")?;
    /// assert_eq!(llm.log_probs(&said, &llm.embed(&prompt)?.unsqueeze(0)?)?.dims(), [1, said.len()]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn continuation(&self, prompt: &Text, text: impl AsRef<[u8]>) -> Result<Continuation> {
        let said = self.0.tokenizer.continuation(prompt, text)?;
        fit(prompt.len() + said.len(), self.0.config.positions())?;
        Ok(said)
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// How many decoder blocks there are.
    pub fn layers(&self) -> usize {
        self.0.blocks.len()
    }

    /// How much memory the weights take.
    pub fn bytes(&self) -> usize {
        let blocks = self.0.blocks.iter().map(|block| block.attention.bytes() + block.feed_forward.bytes());
        let vocabulary = if self.0.tied { 0 } else { self.0.vocabulary.bytes() };
        blocks.sum::<usize>() + self.0.words.bytes() + vocabulary
    }

    /// Token embeddings of a prompt, `(t,c)`: what attributions are over.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer")?;
    /// assert_eq!(llm.embed(&prompt)?.dim(0)?, prompt.len());    // (t,c)
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn embed(&self, text: &Text) -> Result<Tensor> {
        self.embed_ids(&text.ids())
    }

    /// Embeddings of any token ids, `(t,c)`.
    ///
    /// Errors: an id beyond the vocabulary.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer")?;
    /// assert_eq!(llm.embed_ids(&prompt.ids())?.to_vec2::<f32>()?, llm.embed(&prompt)?.to_vec2::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn embed_ids(&self, ids: &[u32]) -> Result<Tensor> {
        self.0.words.rows(ids)
    }

    /// The baseline's embeddings for a prompt, `(t,c)`.
    ///
    /// Errors: a token the vocabulary does not have.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer")?;
    /// let mean = llm.baseline(&prompt, &Baseline::mean())?;
    /// assert_eq!(mean.i(1)?.to_vec1::<f32>()?, mean.i(2)?.to_vec1::<f32>()?);
    /// assert_eq!(mean.i(0)?.to_vec1::<f32>()?, llm.embed(&prompt)?.i(0)?.to_vec1::<f32>()?); // <s> stays
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn baseline(&self, text: &Text, baseline: &Baseline) -> Result<Tensor> {
        self.0.words.baseline(text, baseline, &self.0.tokenizer)
    }

    /// Token embeddings `(n,t,c)` → the next token's logits, `(n,v)`.
    ///
    /// Errors: x is not `(n,t,c)` with the model's c.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Michael works as a software engineer in Austin, Texas. In his free time, he enjoys")?;
    /// let logits = llm.logits(&llm.embed(&prompt)?.unsqueeze(0)?)?;    // (1,v)
    /// let next = llm.continuation(&prompt, " painting")?.ids()[0];
    /// assert_eq!(logits.argmax(1)?.to_vec1::<u32>()?, [next]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let last = self.check(x)? - 1;
        Ok(self.run(&Past::default(), x, &vec![last; x.dim(0)?], 1, self.to_logits())?.squeeze(1)?)
    }

    /// The same at every place, `(n,t,v)`, with a hook at the named places of the network.
    ///
    /// Errors: also a site that the network does not have.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer")?;
    /// let x = llm.embed(&prompt)?.unsqueeze(0)?;
    /// let mut record = Record::new(&[Site::ResidPre(0)]);
    /// assert_eq!(llm.logits_hooked(&x, &mut record)?.dim(1)?, prompt.len());    // (n,t,v), every place
    /// assert_eq!(record.get(Site::ResidPre(0))?.to_vec3::<f32>()?, x.to_vec3::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        self.read_out(&self.hidden_hooked(x, hook)?)
    }

    /// The same for the next token alone, `(n,v)`.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?.under(Rules::libragrad());
    /// let prompt = llm.read("Michael works as a software engineer in Austin, Texas. In his free time, he enjoys")?;
    /// let said = Target::Logit(llm.continuation(&prompt, " painting")?.ids()[0] as usize);
    /// let x = llm.embed(&prompt)?.unsqueeze(0)?;
    /// let layers = layer_gradients(|hook| said.of(&llm.next_logits_hooked(&x, hook)?), llm.layers())?;
    /// let why = full_grad_plus_normalised(&layers)?.over(&prompt)?;
    /// assert!(why.completeness.unwrap().relative_gap < 1e-3);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn next_logits_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let hidden = self.hidden_hooked(x, hook)?;
        Ok(self.read_out(&hidden.narrow(1, hidden.dim(1)? - 1, 1)?)?.squeeze(1)?)
    }

    /// Token embeddings `(n,t,c)` → the last block's output, `(n,t,c)`.
    fn hidden_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        self.check(x)?;
        self.watched(x.clone(), &Past::default(), hook)
    }

    /// All blocks over all tokens, `(n,t,c) → (n,t,c)`, after a past.
    ///
    /// Errors: a site that the network does not have.
    pub(super) fn watched(&self, x: Tensor, past: &Past, hook: &mut dyn Hook) -> Result<Tensor> {
        check_sites(hook, self.0.blocks.iter().flat_map(Block::sites))?;
        self.blocks(x, past, hook)
    }

    /// Embeddings `(n,t,c)` of n variants of a prompt → ln p of each token of its continuation, given those before,
    /// `(n,o)` for o tokens; in nats.
    ///
    /// One forward serves all of them: token j is predicted where token j − 1 was read. Σⱼ is the log-probability of the
    /// whole continuation.
    ///
    /// Errors: x is not `(n,t,c)` with the prompt's t.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Michael works as a software engineer in Austin, Texas. In his free time, he enjoys")?;
    /// let x = llm.embed(&prompt)?.unsqueeze(0)?;
    /// let says = |said: &str| -> Result<f32> {
    ///     Ok(llm.log_probs(&llm.continuation(&prompt, said)?, &x)?.sum_all()?.to_scalar()?)
    /// };
    /// assert!(says(" painting")? > says(" chess")?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn log_probs(&self, said: &Continuation, x: &Tensor) -> Result<Tensor> {
        Ok(self.follow(said, x, self.to_log_probs(said))?.squeeze(2)?)
    }

    /// The same as logits over the vocabulary at each of the o places, `(n,o,v)`, for other targets.
    ///
    /// Errors: those of [`log_probs`](Self::log_probs).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("In his free time, he enjoys")?;
    /// let (said, x) = (llm.continuation(&prompt, " painting, chess")?, llm.embed(&prompt)?.unsqueeze(0)?);
    /// let logits = llm.continuation_logits(&said, &x)?;    // (n,o,v)
    /// let first = logits.i((.., 0))?;                      // the next token's
    /// assert!((first - llm.logits(&x)?)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-3);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn continuation_logits(&self, said: &Continuation, x: &Tensor) -> Result<Tensor> {
        self.follow(said, x, self.to_logits())
    }

    /// The model at the places where the continuation is predicted.
    fn follow(&self, said: &Continuation, x: &Tensor, tail: Vec<Stage>) -> Result<Tensor> {
        let t = self.check(x)?;
        if t != said.prompt().len() {
            let wanted = format!("(n, {}, {}), the prompt's", said.prompt().len(), self.0.config.hidden_size);
            return Err(Error::shape("the embeddings", wanted, x.dims()));
        }
        self.run(&Past::default(), &self.before_last(said, x)?, &vec![t - 1; x.dim(0)?], said.len(), tail)
    }

    /// Embeddings of variants of a prompt, `(n,t,c)`, followed by those of all but the continuation's last token.
    pub(super) fn before_last(&self, said: &Continuation, x: &Tensor) -> Result<Tensor> {
        let ids = said.ids();
        let before = &ids[..ids.len() - 1];
        if before.is_empty() {
            return Ok(x.clone());
        }
        let (n, _, c) = x.dims3()?;
        let rest = self.embed_ids(before)?.to_dtype(x.dtype())?.unsqueeze(0)?;
        Ok(Tensor::cat(&[x, &rest.broadcast_as((n, before.len(), c))?.contiguous()?], 1)?)
    }

    /// ln p of each token of a continuation after other prompts than its own, `(n,o)`: what is left of a text when parts
    /// of it are removed has other lengths.
    ///
    /// Errors: no prompts; an empty one; an id beyond the vocabulary; longer than the context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("In his free time, he enjoys")?;
    /// let said = llm.continuation(&prompt, " painting")?;
    /// let shorter = llm.read("He enjoys")?.ids();
    /// assert_eq!(llm.log_probs_after(&[prompt.ids(), shorter], &said)?.dims(), [2, said.len()]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn log_probs_after(&self, prompts: &[Vec<u32>], said: &Continuation) -> Result<Tensor> {
        Ok(self.follow_each(prompts, said, self.to_log_probs(said))?.squeeze(2)?)
    }

    /// The same as logits over the vocabulary at each of the o places, `(n,o,v)`.
    ///
    /// Errors: those of [`log_probs_after`](Self::log_probs_after).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("In his free time, he enjoys")?;
    /// let said = llm.continuation(&prompt, " painting")?;
    /// let logits = llm.continuation_logits_after(&[llm.read("He enjoys")?.ids()], &said)?;    // (n,o,v)
    /// assert_eq!(logits.dims()[..2], [1, said.len()]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn continuation_logits_after(&self, prompts: &[Vec<u32>], said: &Continuation) -> Result<Tensor> {
        self.follow_each(prompts, said, self.to_logits())
    }

    /// The model at the places where the continuation is predicted, after each of some prompts.
    fn follow_each(&self, prompts: &[Vec<u32>], said: &Continuation, tail: Vec<Stage>) -> Result<Tensor> {
        let ids = said.ids();
        let longest = prompts.iter().map(Vec::len).max().ok_or_else(|| Error::argument("there are no prompts"))?;
        if prompts.iter().any(Vec::is_empty) {
            return Err(Error::argument(
                "nothing is left of a prompt, so there is nothing the continuation could follow. Keep at least one token",
            ));
        }
        self.fits(longest + ids.len())?;
        let rest = &ids[..ids.len() - 1];
        if self.is_on_cpu() {
            return self.follow_each_alone(prompts, rest, ids.len(), &tail);
        }
        if self.stretches(longest + rest.len()) {
            return self.follow_in_turn(prompts, rest, ids.len(), &tail); // padded, each would be read as the longest is
        }
        let row = |prompt: &Vec<u32>| {
            let mut row = [prompt, rest].concat();
            row.resize(longest + rest.len(), ids[0]); // what comes after, no place that counts can see
            row
        };
        let rows: Vec<u32> = prompts.iter().flat_map(row).collect();
        let x = self.embed_ids(&rows)?.reshape((prompts.len(), longest + rest.len(), ()))?;
        let starts: Vec<usize> = prompts.iter().map(|prompt| prompt.len() - 1).collect();
        self.run(&Past::default(), &x, &starts, ids.len(), tail)
    }

    /// ln p of each token of a continuation, given the parts of a prompt that are there, `(n,s)` → `(n,o)`: the others are
    /// removed, or replaced as a template's fields say. Where they can be absent in several ways, the mean over these.
    ///
    /// Errors: those of [`log_probs_after`](Self::log_probs_after); `present` has not a column per part, or other
    /// numbers than ones and zeros.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Michael works as a software engineer in Austin, Texas. In his free time, he enjoys")?;
    /// let said = llm.continuation(&prompt, " painting")?;
    /// let parts = Parts::spans(&prompt, &["software engineer"])?;
    /// let present = Tensor::stack(&[parts.all()?, parts.none()?], 0)?;    // (2,1): with it, without it
    /// let said = llm.log_probs_with(&parts, &present, &said)?.sum(1)?.to_vec1::<f32>()?;
    /// assert!(said[0] > said[1] + 1.0);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn log_probs_with(&self, parts: &Parts, present: &Tensor, said: &Continuation) -> Result<Tensor> {
        let prompts = parts.prompts(present, &self.0.tokenizer)?;
        let outcomes = self.log_probs_after(&prompts, said)?;
        Ok(outcomes.reshape((present.dim(0)?, parts.versions(), said.len()))?.mean(1)?)
    }

    /// The k most probable next tokens and their probabilities.
    ///
    /// Errors: logits that are not finite.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Michael works as a software engineer in Austin, Texas. In his free time, he enjoys")?;
    /// let likely = llm.predict(&prompt, 3)?;
    /// assert!(likely[0].1 > 0.9 && likely[0].1 >= likely[1].1);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn predict(&self, text: &Text, k: usize) -> Result<Vec<(String, f64)>> {
        self.most_probable(&self.logits(&self.embed(text)?.unsqueeze(0)?)?, k)
    }

    /// The k most probable tokens of logits `(1,v)`, and their probabilities.
    pub(super) fn most_probable(&self, logits: &Tensor, k: usize) -> Result<Vec<(String, f64)>> {
        finite("a logit", &numbers(logits)?)?;
        let probabilities = numbers(&candle_nn::ops::softmax(logits, D::Minus1)?)?;
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let name = |id: usize| Ok((self.0.tokenizer.piece(id as u32)?, probabilities[id]));
        order.into_iter().take(k).map(name).collect()
    }

    /// Every layer's attention pattern, `L × (1,h,t,t)`; rows are queries, sum to one, and end at the diagonal.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer")?;
    /// let patterns = llm.attention(&prompt)?;
    /// assert_eq!(patterns.len(), llm.layers());
    /// assert_eq!(patterns[0].i((0, 0, 0, 1))?.to_scalar::<f32>()?, 0.0);    // nothing looks ahead
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attention(&self, text: &Text) -> Result<Vec<Tensor>> {
        let mut record = Record::of_layers(Site::Pattern, self.layers());
        self.hidden_hooked(&self.embed(text)?.unsqueeze(0)?, &mut record)?;
        record.all()
    }

    /// How much each token of a continuation attends to every token of its prompt where it is predicted, `(L,h,o,t)`.
    ///
    /// **When it misleads**: attention is where a model looks, not what it makes of it; and much of it rests on the first token.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
    /// let said = llm.generate(&prompt, &Sampling::greedy(5))?;
    /// let looks = llm.attention_to_prompt(&said)?;    // (L,h,o,t)
    /// assert_eq!((looks.dim(2)?, looks.dim(3)?), (said.len(), prompt.len()));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attention_to_prompt(&self, said: &Continuation) -> Result<Tensor> {
        let (mut record, t) = (Record::of_layers(Site::Pattern, self.layers()), said.prompt().len());
        self.hidden_hooked(&self.before_last(said, &self.embed(said.prompt())?.unsqueeze(0)?)?, &mut record)?;
        let looks = |pattern: &Tensor| pattern.narrow(2, t - 1, said.len())?.narrow(3, 0, t);
        let looks = record.all()?.iter().map(looks).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&looks, 0)?)
    }

    /// Errors unless x is `(n,t,c)`; t.
    fn check(&self, x: &Tensor) -> Result<usize> {
        let c = self.0.config.hidden_size;
        match *x.dims() {
            [n, t, channels] if channels == c && n > 0 && t > 0 => Ok(t),
            _ => Err(Error::shape("the embeddings", format!("(n, t, {c}), none of them 0"), x.dims())),
        }
    }

    /// The final norm and the vocabulary.
    pub(super) fn to_logits(&self) -> Vec<Stage> {
        vec![Stage::RmsNorm(self.0.norm.clone()), Stage::Linear(self.0.vocabulary.clone())]
    }

    /// The logits at every place of the last block's output, `(n,t,c) → (n,t,v)`.
    pub(super) fn read_out(&self, hidden: &Tensor) -> Result<Tensor> {
        Chain::new(self.to_logits()).under(self.0.rules).forward(hidden, None, &mut Clear)
    }

    /// The same, and the log-probability of each token of a continuation.
    pub(super) fn to_log_probs(&self, said: &Continuation) -> Vec<Stage> {
        let mut tail = self.to_logits();
        tail.push(Stage::LogProbability(LogProbability::new(&said.ids())));
        tail
    }

    /// All blocks over all tokens, `(n,t,c) → (n,t,c)`, after a past.
    pub(super) fn blocks(&self, mut x: Tensor, past: &Past, hook: &mut dyn Hook) -> Result<Tensor> {
        for (l, block) in self.0.blocks.iter().enumerate() {
            x = past.attend(&block.attention, l, &x, hook)?;
            x = block.feed_forward.forward(&x, None, hook)?;
        }
        Ok(x)
    }

    /// The same, and then `tail`, at `count` tokens of each example from the one where it starts. After the last attention
    /// only these are worked on.
    fn blocks_at(
        &self,
        x: &Tensor,
        past: &Past,
        starts: &[usize],
        count: usize,
        tail: Vec<Stage>,
        hook: &mut dyn Hook,
    ) -> Result<Tensor> {
        let (last, before) = self.0.blocks.split_last().ok_or_else(|| Error::argument("a model without layers"))?;
        let mut x = x.clone();
        for (l, block) in before.iter().enumerate() {
            x = past.attend(&block.attention, l, &x, hook)?;
            x = block.feed_forward.forward(&x, None, hook)?;
        }
        let x = past.attend(&last.attention, before.len(), &x, hook)?;
        last.feed_forward.then(tail).forward(&window(&x, starts, count)?, None, hook)
    }
}

/// `(n,t,c) → (n,count,c)`: `count` tokens of each example, from the one where it starts.
fn window(x: &Tensor, starts: &[usize], count: usize) -> Result<Tensor> {
    if starts.iter().all(|start| *start == starts[0]) {
        return Ok(x.narrow(1, starts[0], count)?);
    }
    let parts: Vec<Tensor> =
        starts.iter().enumerate().map(|(i, &start)| Ok(x.i(i)?.narrow(0, start, count)?)).collect::<Result<_>>()?;
    Ok(Tensor::stack(&parts, 0)?)
}

/// What a GGUF file divides the rotary frequencies by, if it does.
fn rope_factors(weights: &Weights, config: &Config) -> Result<Option<Vec<f64>>> {
    const NAME: &str = "rope_freqs.weight";
    weights.contains(NAME).then(|| numbers(&weights.get(config.head_dim() / 2, NAME)?)).transpose()
}

/// The weights, whose names begin with what the embeddings' does.
fn prefixed(weights: Weights, names: &Names) -> Weights {
    let has_words = |prefix: &&&str| weights.contains(&format!("{prefix}{}.weight", names.words));
    let prefix = names.prefixes.iter().find(has_words).unwrap_or(&names.prefixes[0]);
    weights.with_prefix(prefix)
}

/// From channels to the vocabulary, and whether that is the embeddings' matrix.
///
/// Errors: it is neither there nor the embeddings'.
fn vocabulary(weights: &Weights, words: &Embedding, config: &Config) -> Result<(Linear, bool)> {
    let (c, v) = (config.hidden_size, config.vocab_size);
    let tied = config.tie_word_embeddings && !has_other_head(weights, words, [v, c])?;
    if !tied && !weights.contains("lm_head.weight") {
        return Err(Error::argument(
            "the weights have no `lm_head`, and nothing here ties it to the embeddings: this is a backbone, an embedding \
             model or a classifier, and no causal language model",
        ));
    }
    Ok((if tied { words.transposed(None)? } else { weights.linear("lm_head", c, v)? }, tied))
}

/// Whether there is a head of its own after all, which is not the embeddings' matrix: a merged adapter leaves such ones.
fn has_other_head(weights: &Weights, words: &Embedding, [v, c]: [usize; 2]) -> Result<bool> {
    const HEAD: &str = "lm_head.weight";
    if !weights.contains(HEAD) {
        return Ok(false);
    }
    let apart = weights.get((v, c), HEAD)?.ne(&words.whole()?)?.to_dtype(DType::U32)?.flatten_all()?.max(0)?;
    Ok(apart.to_scalar::<u32>()? != 0)
}

/// The tokens that end a text: generation_config.json's, or else config.json's; in a chat format, also the one that ends a turn.
fn end_of_text(checkpoint: &Checkpoint, config: &Config, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let generation = checkpoint.generation_config()?;
    let given: OneOrMany = serde_json::from_value(generation["eos_token_id"].clone()).unwrap_or_default();
    let ids = if given.ids().is_empty() { config.end_of_text() } else { given.ids() };
    match generation["chat_format"] == "chatml" {
        true => Ok([ids, vec![tokenizer.id("<|im_end|>")?]].concat()),
        false => Ok(ids),
    }
}

/// What the weights are called.
pub(super) struct Names {
    /// What their names may begin with.
    prefixes: &'static [&'static str],
    words: &'static str,
    norm: &'static str,
    /// What comes before a block's number.
    blocks: &'static str,
    norms: [&'static str; 2],
    qkv: Qkv,
    out: &'static str,
    /// What is activated, and what it is multiplied with.
    gate: [&'static str; 2],
    down: &'static str,
    /// What older checkpoints hold in a block besides, which follows from the configuration.
    unused: &'static [&'static str],
}

/// Queries, keys and values: three projections, or one with their rows stacked, by its weight's and bias's whole names.
enum Qkv {
    Apart([&'static str; 3]),
    Packed([&'static str; 2]),
}

/// The norms of queries and of keys, where a checkpoint has them.
const HEAD_NORMS: [&str; 2] = ["self_attn.q_norm", "self_attn.k_norm"];

impl Names {
    /// Every name inside a block.
    fn all(&self) -> Vec<&'static str> {
        let qkv = match &self.qkv {
            Qkv::Apart(names) => &names[..],
            Qkv::Packed(names) => &names[..],
        };
        [&self.norms, qkv, &HEAD_NORMS, &self.gate, &[self.out, self.down], self.unused].concat()
    }
}

/// Hugging Face's names for Llama and its relatives.
pub(super) const LLAMA: Names = Names {
    prefixes: &["model.", "model.language_model."],
    words: "embed_tokens",
    norm: "norm",
    blocks: "layers.",
    norms: ["input_layernorm", "post_attention_layernorm"],
    qkv: Qkv::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    out: "self_attn.o_proj",
    gate: ["mlp.gate_proj", "mlp.up_proj"],
    down: "mlp.down_proj",
    unused: &["self_attn.rotary_emb."],
};

/// The first Qwen's.
pub(super) const QWEN: Names = Names {
    prefixes: &["transformer."],
    words: "wte",
    norm: "ln_f",
    blocks: "h.",
    norms: ["ln_1", "ln_2"],
    qkv: Qkv::Packed(["attn.c_attn.weight", "attn.c_attn.bias"]),
    out: "attn.c_proj",
    gate: ["mlp.w2", "mlp.w1"],
    down: "mlp.c_proj",
    unused: &["attn.rotary_emb.", "attn.masked_bias"],
};

/// Where a block's weights are, what they are called, and of what size they are.
struct Part<'a> {
    weights: &'a Weights,
    names: &'a Names,
    config: &'a Config,
    /// The block's number.
    l: usize,
}

/// All blocks, the first of which shows what goes in.
///
/// Errors: not as many as config.json promises; a tensor in one of them that is not known.
fn blocks(weights: &Weights, names: &Names, config: &Config, rope: Rope) -> Result<Vec<Block>> {
    let (layers, rope) = (weights.blocks(names.blocks, Some(config.num_hidden_layers))?, Stage::Rope(rope));
    let blocks = (0..layers).map(|l| block(weights, names, config, &rope, l));
    let mut blocks = blocks.collect::<Result<Vec<_>>>()?;
    blocks[0].attention = blocks[0].attention.after(vec![Stage::At(Site::Embed)]);
    Ok(blocks)
}

fn block(weights: &Weights, names: &Names, config: &Config, rope: &Stage, l: usize) -> Result<Block> {
    weights.only(&format!("{}{l}.", names.blocks), &names.all())?;
    let part = Part { weights, names, config, l };
    Ok(Block {
        attention: Chain::new(vec![
            Stage::At(Site::ResidPre(l)),
            Stage::At(Site::AttnBias(l)),
            Stage::Residual(part.attention(rope)?),
            Stage::At(Site::ResidMid(l)),
        ]),
        feed_forward: Chain::new(vec![
            Stage::At(Site::MlpBias(l)),
            Stage::Residual(part.feed_forward()?),
            Stage::At(Site::ResidPost(l)),
        ]),
    })
}

impl Part<'_> {
    fn attention(&self, rope: &Stage) -> Result<Vec<Stage>> {
        let (l, c, d) = (self.l, self.config.hidden_size, self.config.head_dim());
        let (heads, kv_heads) = (self.config.num_attention_heads, self.config.kv_heads());
        let mut stages = vec![Stage::RmsNorm(self.norm(self.names.norms[0], c)?), Stage::Linear(self.qkv()?)];
        let [query, key] = HEAD_NORMS;
        if HEAD_NORMS.iter().any(|norm| self.weights.contains(&self.full(&format!("{norm}.weight")))) {
            let (query, key) = (self.norm(query, d)?, self.norm(key, d)?);
            stages.push(Stage::HeadNorm(HeadNorm::new(query, key, heads, kv_heads)?));
        }
        stages.extend([
            rope.clone(),
            Stage::At(Site::Qkv(l)),
            Stage::Attention(Attention::causal(heads, kv_heads)?, Site::Pattern(l)),
            Stage::At(Site::Z(l)),
            Stage::Linear(self.linear(self.names.out, heads * d, c)?),
            Stage::At(Site::AttnOut(l)),
        ]);
        Ok(stages)
    }

    /// Queries, keys and values in one.
    fn qkv(&self) -> Result<Linear> {
        let (c, d) = (self.config.hidden_size, self.config.head_dim());
        let (heads, kv_heads) = (self.config.num_attention_heads, self.config.kv_heads());
        match &self.names.qkv {
            Qkv::Packed([weight, bias]) => {
                self.weights.linear_of([&self.full(weight), &self.full(bias)], c, (heads + 2 * kv_heads) * d)
            }
            Qkv::Apart(parts) => {
                let parts = parts.iter().zip([heads, kv_heads, kv_heads]);
                let parts = parts.map(|(part, n)| self.linear(part, c, n * d));
                Linear::stacked(&parts.collect::<Result<Vec<_>>>()?)
            }
        }
    }

    fn feed_forward(&self) -> Result<Vec<Stage>> {
        let (c, wide) = (self.config.hidden_size, self.config.intermediate_size);
        let gate = self.names.gate.iter().map(|part| self.linear(part, c, wide)).collect::<Result<Vec<_>>>()?;
        Ok(vec![
            Stage::RmsNorm(self.norm(self.names.norms[1], c)?),
            Stage::Linear(Linear::stacked(&gate)?),
            Stage::Gate(Gate(self.config.hidden_act)),
            Stage::Linear(self.linear(self.names.down, wide, c)?),
            Stage::At(Site::MlpOut(self.l)),
        ])
    }

    fn full(&self, part: &str) -> String {
        format!("{}{}.{part}", self.names.blocks, self.l)
    }

    fn linear(&self, part: &str, from: usize, to: usize) -> Result<Linear> {
        self.weights.linear(&self.full(part), from, to)
    }

    fn norm(&self, part: &str, width: usize) -> Result<RmsNorm> {
        self.weights.rms_norm(&self.full(part), width, self.config.rms_norm_eps)
    }
}
