//! BERT: a stack of post-norm encoder blocks, with the heads it is published with.
//!
//! Devlin et al. 2018, arXiv 1810.04805. A block is x ← LN(x + Attention(x)), x ← LN(x + FFN(x)).

use std::sync::Arc;

use candle_core::Tensor;
use serde::Deserialize;

use super::blocks::{Activation, Attention, Chain, LayerNorm, Linear, Stage, UnitLength};
use super::checkpoint::{Checkpoint, Load};
use super::embedding::{Baseline, Embedding};
use super::encoder::Block;
use super::hook::{Clear, Hook, Record, Site, check_sites};
use super::labels::{Labels, Named, headless};
use super::presence::{presence, shortened};
use super::rules::Rules;
use super::text::{Text, Tokenizer, fit};
use super::weights::Weights;
use crate::tensor::at_least_single;
use crate::{Error, Result};

/// `config.json`, as far as the forward needs it.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: Activation,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "tiny")]
    layer_norm_eps: f64,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(flatten)]
    named: Named,
}

fn two() -> usize {
    2
}

fn tiny() -> f64 {
    1e-12
}

/// A BERT of any size: `BertModel`, `BertForSequenceClassification` or `BertForMaskedLM`, as its weights say.
///
/// Cheap to clone. A forward takes word embeddings `(n,t,c)`, so that they can be interpolated, ablated and
/// differentiated, and the [`Text`] they are of, which brings positions, segments and mask.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let (label, probability) = &bert.predict(&text)?[0];
/// assert!(label == "positive" && *probability > 0.9);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone)]
pub struct Bert(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    name: String,
    config: Config,
    tokenizer: Tokenizer,
    words: Embedding,
    positions: Tensor,
    types: Tensor,
    embeddings: Chain,
    blocks: Vec<Block>,
    classifier: Option<Chain>,
    labels: Labels,
    vocabulary: Option<Chain>,
    /// A sentence's vector → the same of length one.
    sentence: Chain,
}

impl std::fmt::Debug for Bert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { num_hidden_layers, num_attention_heads, hidden_size, vocab_size, .. } = &self.0.config;
        let head = match (&self.0.classifier, &self.0.vocabulary) {
            (Some(_), _) => format!("classifier {:?}", self.labels()),
            (_, Some(_)) => "masked language model".into(),
            _ => "encoder without a head".into(),
        };
        write!(f, "{}: BERT, {head}, {num_hidden_layers} layers × {num_attention_heads} heads, ", self.0.name)?;
        write!(f, "{hidden_size} channels, {vocab_size} tokens")
    }
}

impl Bert {
    /// An embedded model (`"pellucid/tiny-bert-sentiment"`), a folder, or a hub id (`"bert-base-uncased"`).
    ///
    /// Errors: see [`Checkpoint::open`]; another architecture; files that are missing, broken or do not fit together.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// assert_eq!((bert.layers(), bert.labels()), (3, vec!["negative".to_string(), "positive".to_string()]));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load(source: &str) -> Result<Self> {
        Self::load_with(source, &Load::default())
    }

    /// The same at another revision or precision, or on another device.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load_with("pellucid/tiny-bert-sentiment", &Load::f64())?;
    /// assert_eq!(bert.embed(&bert.read("a fine film")?)?.dtype(), DType::F64);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load_with(source: &str, load: &Load) -> Result<Self> {
        let checkpoint = Checkpoint::open(source, load)?;
        checkpoint.kind(&["bert"], "`bert`: BertModel, BertForSequenceClassification, BertForMaskedLM")?;
        let config: Config = checkpoint.config()?;
        check_config(&checkpoint, &config)?;
        let weights = checkpoint.weights()?.with_prefix("bert.");
        let c = config.hidden_size;
        let words = weights.embedding("embeddings.word_embeddings", config.vocab_size, c)?;
        let layers = weights.blocks("encoder.layer.", Some(config.num_hidden_layers));
        let layers = layers.map_err(|error| checkpoint.at_fault(error))?;
        let classes = weights.rows("classifier.weight");
        let parts = Parts {
            name: source.into(),
            tokenizer: checkpoint.tokenizer()?,
            positions: weights.get((config.max_position_embeddings, c), "embeddings.position_embeddings.weight")?,
            types: weights.get((config.type_vocab_size, c), "embeddings.token_type_embeddings.weight")?,
            embeddings: embedding_norm(&weights, &config)?,
            blocks: (0..layers).map(|l| block(&weights, &config, l)).collect::<Result<_>>()?,
            labels: Labels::new(classes.unwrap_or(0), &config.named),
            classifier: classes.map(|classes| classifier(&weights, &config, classes)).transpose()?,
            vocabulary: vocabulary(&weights, &config, &words)?,
            sentence: Chain::new(vec![Stage::UnitLength(UnitLength)]),
            words,
            config,
        };
        Ok(Self(Arc::new(parts)))
    }

    /// The same model, walked back by other rules: what it says stays the same, and every method of this crate explains it by
    /// them. Cheap: weights are shared.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let libra = bert.under(Rules::libragrad());
    /// let text = bert.read("I loved it.")?;
    /// let x = bert.embed(&text)?.unsqueeze(0)?;
    /// assert_eq!(libra.logits(&text, &x)?.to_vec2::<f32>()?, bert.logits(&text, &x)?.to_vec2::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn under(&self, rules: Rules) -> Self {
        let under = |chain: &Chain| chain.under(rules);
        Self(Arc::new(Parts {
            embeddings: under(&self.0.embeddings),
            blocks: self.0.blocks.iter().map(|block| block.under(rules)).collect(),
            classifier: self.0.classifier.as_ref().map(under),
            vocabulary: self.0.vocabulary.as_ref().map(under),
            sentence: under(&self.0.sentence),
            ..(*self.0).clone()
        }))
    }

    /// A text as the model reads it.
    ///
    /// Errors: not UTF-8; empty; longer than the model's positions.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let tokens: Vec<&str> = text.tokens().iter().map(|token| token.text.as_str()).collect();
    /// assert_eq!(tokens, ["[CLS]", "i", "loved", "it", ".", "[SEP]"]);
    /// assert!(matches!(bert.read(" "), Err(Error::EmptyText)));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn read(&self, text: impl AsRef<[u8]>) -> Result<Text> {
        self.fitting(self.0.tokenizer.read(text)?)
    }

    /// Two texts as the model reads them, one after the other.
    ///
    /// Errors: those of [`read`](Self::read).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let pair = bert.read_pair("I loved it.", "It was dull.")?;
    /// assert_eq!(pair.source(), "I loved it. It was dull.");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn read_pair(&self, first: impl AsRef<[u8]>, second: impl AsRef<[u8]>) -> Result<Text> {
        self.fitting(self.0.tokenizer.read_pair(first, second)?)
    }

    /// The text with `[PAD]` appended up to `len` tokens.
    ///
    /// Errors: longer than the model's positions.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let padded = bert.pad(text.clone(), 12)?;
    /// let gap = (bert.predict(&padded)?[0].1 - bert.predict(&text)?[0].1).abs();
    /// assert!(padded.len() == 12 && gap < 1e-5);    // padding is not seen
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn pad(&self, text: Text, len: usize) -> Result<Text> {
        fit(len, self.0.config.max_position_embeddings)?;
        Ok(text.padded(len, self.0.tokenizer.special("[PAD]")?))
    }

    fn fitting(&self, text: Text) -> Result<Text> {
        fit(text.len(), self.0.config.max_position_embeddings)?;
        Ok(text)
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// How many encoder blocks there are.
    pub fn layers(&self) -> usize {
        self.0.blocks.len()
    }

    /// The classifier's classes, by number: as config.json names them, or else `LABEL_0`, `LABEL_1`, …
    pub fn labels(&self) -> Vec<String> {
        self.0.labels.names().to_vec()
    }

    /// The number of a class.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// assert_eq!(bert.label("positive")?, 1);
    /// assert!(bert.label("glad").unwrap_err().to_string().contains("the classes are negative, positive"));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn label(&self, name: &str) -> Result<usize> {
        self.0.labels.number(name)
    }

    /// Word embeddings of a text, `(t,c)`: what attributions are over. Positions and segments are added by the forward.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// assert_eq!(bert.embed(&text)?.dims(), [text.len(), 64]);    // (t,c)
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn embed(&self, text: &Text) -> Result<Tensor> {
        self.embed_ids(&text.ids())
    }

    /// Word embeddings of any token ids, `(t,c)`.
    ///
    /// Errors: an id beyond the vocabulary.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// assert_eq!(bert.embed_ids(&text.ids())?.to_vec2::<f32>()?, bert.embed(&text)?.to_vec2::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn embed_ids(&self, ids: &[u32]) -> Result<Tensor> {
        self.0.words.rows(ids)
    }

    /// The baseline's word embeddings for a text, `(t,c)`.
    ///
    /// Errors: a token the vocabulary does not have.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let masked = bert.baseline(&text, &Baseline::token("[MASK]"))?;
    /// assert_eq!(masked.i(2)?.to_vec1::<f32>()?, bert.embed_ids(&[bert.tokenizer().id("[MASK]")?])?.i(0)?.to_vec1::<f32>()?);
    /// assert_eq!(masked.i(0)?.to_vec1::<f32>()?, bert.embed(&text)?.i(0)?.to_vec1::<f32>()?); // [CLS] stays
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn baseline(&self, text: &Text, baseline: &Baseline) -> Result<Tensor> {
        self.0.words.baseline(text, baseline, &self.0.tokenizer)
    }

    /// Word embeddings `(n,t,c)` of n variants of a text → the last block's output, `(n,t,c)`.
    ///
    /// Errors: x is not `(n,t,c)` with the text's t.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// assert_eq!(bert.hidden(&text, &bert.embed(&text)?.unsqueeze(0)?)?.dims(), [1, text.len(), 64]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn hidden(&self, text: &Text, x: &Tensor) -> Result<Tensor> {
        self.hidden_hooked(text, x, &mut Clear)
    }

    /// The same, with a hook at the named places of the network.
    ///
    /// Errors: also a site that the network does not have.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let mut record = Record::new(&[Site::ResidPost(2)]);
    /// let hidden = bert.hidden_hooked(&text, &bert.embed(&text)?.unsqueeze(0)?, &mut record)?;
    /// assert_eq!(hidden.to_vec3::<f32>()?, record.get(Site::ResidPost(2))?.to_vec3::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn hidden_hooked(&self, text: &Text, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        check_sites(hook, self.0.embeddings.sites().chain(self.0.blocks.iter().flat_map(Block::sites)))?;
        let mut x = self.0.embeddings.forward(&self.placed(text, x)?, text.mask(), hook)?;
        for block in &self.0.blocks {
            x = block.forward(&x, text.mask(), hook)?;
        }
        Ok(x)
    }

    /// Word embeddings plus those of their positions and segments, `(n,t,c)`.
    fn placed(&self, text: &Text, x: &Tensor) -> Result<Tensor> {
        let (t, c) = (text.len(), self.0.config.hidden_size);
        if x.rank() != 3 || x.dims()[1..] != [t, c] {
            return Err(Error::shape("the embeddings", format!("(n, {t}, {c})"), x.dims()));
        }
        let types = self.0.types.index_select(&Tensor::new(text.type_ids(), x.device())?, 0)?;
        Ok(x.broadcast_add(&(self.0.positions.narrow(0, 0, t)? + types)?)?)
    }

    /// Word embeddings `(n,t,c)` → a classifier's logits, `(n,v)`.
    ///
    /// They are read off `[CLS]`, so after the last attention only that token's row is worked on.
    ///
    /// Errors: the checkpoint has no classifier; x has the wrong shape.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let logits = bert.logits(&text, &bert.embed(&text)?.unsqueeze(0)?)?;    // (1,v)
    /// assert_eq!(logits.argmax(1)?.to_vec1::<u32>()?, [bert.label("positive")? as u32]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits(&self, text: &Text, x: &Tensor) -> Result<Tensor> {
        self.logits_of(&self.placed(text, x)?, text.mask())
    }

    /// Embeddings with their places, `(n,t,c)`, of which those that the mask has can be seen → `(n,v)`.
    fn logits_of(&self, x: &Tensor, mask: Option<&[bool]>) -> Result<Tensor> {
        let (last, before) = self.0.blocks.split_last().ok_or_else(|| Error::argument("there are no blocks"))?;
        let x = self.0.embeddings.forward(x, None, &mut Clear)?;
        let x = before.iter().try_fold(x, |x, block| block.forward(&x, mask, &mut Clear))?;
        let first = last.attention.forward(&x, mask, &mut Clear)?.narrow(1, 0, 1)?;
        self.classify(&last.feed_forward.forward(&first, None, &mut Clear)?, &mut Clear)
    }

    /// Which of a text's tokens are present, `(n,t)` of ones and zeros → a classifier's logits, `(n,v)`.
    ///
    /// A token that is not present is dropped from the sequence after positions are added: the others stay where they are, and
    /// nothing attends to it, as if it were masked. Special tokens always stay.
    ///
    /// Errors: `present` is not that; the checkpoint has no classifier.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I absolutely loved the movie!")?;
    /// let positive = Target::Logit(bert.label("positive")?);
    /// let present = Tensor::ones(text.len(), DType::F64, &Device::Cpu)?;
    /// let f = |present: &Tensor| positive.of(&bert.logits_with(&text, present)?);
    /// let drops = feature_ablation(f, &present, &present.zeros_like()?, &Groups::elements(&present))?.over(&text)?;
    /// assert_eq!(drops.top(1)[0].0, "loved");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_with(&self, text: &Text, present: &Tensor) -> Result<Tensor> {
        let mut kept = presence(present, text.len())?;
        let seen = |token: usize| text.mask().is_none_or(|mask| mask[token]);
        for (token, special) in text.tokens().iter().map(|token| token.special).enumerate() {
            kept.iter_mut().for_each(|kept| kept[token] = seen(token) && (special || kept[token]));
        }
        let x = self.placed(text, &self.embed(text)?.unsqueeze(0)?)?;
        shortened(&x, &kept, &|x| self.logits_of(x, None))
    }

    /// The same for every token to the end, with a hook at the named places of the network.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let x = bert.embed(&text)?.unsqueeze(0)?;
    /// let blind = bert.logits_hooked(&text, &x, &mut Edit::ablate(Site::AttnOut(0)))?;
    /// assert_ne!(blind.to_vec2::<f32>()?, bert.logits(&text, &x)?.to_vec2::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_hooked(&self, text: &Text, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let first = self.hidden_hooked(text, x, hook)?.narrow(1, 0, 1)?;
        self.classify(&first, hook)
    }

    /// The last block's output for `[CLS]`, `(n,1,c)` → `(n,v)`.
    fn classify(&self, first: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let head = self.0.classifier.as_ref().ok_or_else(|| headless(&self.0.name, "a classifier"))?;
        Ok(head.forward(first, None, hook)?.squeeze(1)?)
    }

    /// Word embeddings `(n,t,c)` → the masked language model's logits at the first `[MASK]`, `(n,v)`.
    ///
    /// Errors: the checkpoint has no such head; the text has no `[MASK]`.
    ///
    /// ```no_run
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("google-bert/bert-base-uncased")?;
    /// let text = bert.read("Paris is the capital of [MASK].")?;
    /// let logits = bert.fill_mask(&text, &bert.embed(&text)?.unsqueeze(0)?)?;    // (1,v)
    /// println!("{}", bert.tokenizer().piece(logits.argmax(1)?.to_vec1::<u32>()?[0])?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn fill_mask(&self, text: &Text, x: &Tensor) -> Result<Tensor> {
        let none = || headless(&self.0.name, "a masked language model's head");
        let head = self.0.vocabulary.as_ref().ok_or_else(none)?;
        let mask = self.0.tokenizer.id("[MASK]")?;
        let gap = text.ids().iter().position(|&id| id == mask);
        let gap = gap.ok_or_else(|| Error::argument("the text has no [MASK] to fill"))?;
        Ok(head.forward(&self.hidden(text, x)?.narrow(1, gap, 1)?, None, &mut Clear)?.squeeze(1)?)
    }

    /// Word embeddings `(n,t,c)` → sentence embeddings of length one, `(n,c)`: the mean over tokens, then L2
    /// (Reimers & Gurevych 2019, arXiv 1908.10084).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let of = |text: &str| -> Result<Tensor> {
    ///     let text = bert.read(text)?;
    ///     bert.sentence_embedding(&text, &bert.embed(&text)?.unsqueeze(0)?)                  // (1,c), of length one
    /// };
    /// let cosine = |a: &str, b: &str| -> Result<f32> { Ok((of(a)? * of(b)?)?.sum_all()?.to_scalar()?) };
    /// assert!(cosine("I loved the movie", "I adored the film")? > cosine("I loved the movie", "I hated the movie")?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn sentence_embedding(&self, text: &Text, x: &Tensor) -> Result<Tensor> {
        let hidden = self.hidden(text, x)?;
        let seen: Vec<f64> = match text.mask() {
            Some(mask) => mask.iter().map(|&seen| f64::from(u8::from(seen))).collect(),
            None => vec![1.0; text.len()],
        };
        let seen = Tensor::new(seen, &candle_core::Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?;
        let sum = at_least_single(&hidden.broadcast_mul(&seen.unsqueeze(1)?)?)?.sum_keepdim(1)?.to_dtype(x.dtype())?;
        Ok(self.0.sentence.forward(&sum, None, &mut Clear)?.squeeze(1)?)
    }

    /// The classifier's classes and their probabilities, most probable first; each by itself where several may be true, or where
    /// there is but one. Where config.json calls it a regression, the numbers themselves.
    ///
    /// Errors: the checkpoint has no classifier.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let (label, probability) = &bert.predict(&bert.read("I hated the movie.")?)?[0];
    /// assert!(label == "negative" && *probability > 0.5);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn predict(&self, text: &Text) -> Result<Vec<(String, f64)>> {
        self.0.labels.ranked(&self.logits(text, &self.embed(text)?.unsqueeze(0)?)?)
    }

    /// Every layer's attention pattern, `L × (1,h,t,t)`; rows are queries and sum to one.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let patterns = bert.attention(&text)?;
    /// assert_eq!((patterns.len(), patterns[0].dims()), (3, &[1, 4, text.len(), text.len()][..]));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attention(&self, text: &Text) -> Result<Vec<Tensor>> {
        let mut record = Record::of_layers(Site::Pattern, self.layers());
        self.hidden_hooked(text, &self.embed(text)?.unsqueeze(0)?, &mut record)?;
        record.all()
    }
}

fn check_config(checkpoint: &Checkpoint, config: &Config) -> Result<()> {
    let problem = match config {
        Config { num_attention_heads: 0, .. } => "num_attention_heads must be at least 1",
        c if c.hidden_size % c.num_attention_heads != 0 => "hidden_size is no multiple of num_attention_heads",
        Config { position_embedding_type: Some(kind), .. } if kind != "absolute" => {
            "only absolute position embeddings are known"
        }
        _ => return Ok(()),
    };
    Err(Error::file(std::path::Path::new(checkpoint.name()).join("config.json"), problem))
}

/// What the weights of a block are called.
const WITHIN_BLOCKS: [&str; 8] = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
];

fn embedding_norm(weights: &Weights, config: &Config) -> Result<Chain> {
    let norm = weights.layer_norm("embeddings.LayerNorm", config.hidden_size, config.layer_norm_eps)?;
    Ok(Chain::new(vec![Stage::At(Site::Embed), Stage::LayerNorm(norm)]))
}

/// x ← LN(x + Attention(x)), then x ← LN(x + FFN(x)).
fn block(weights: &Weights, config: &Config, l: usize) -> Result<Block> {
    let (c, wide, stem) = (config.hidden_size, config.intermediate_size, format!("encoder.layer.{l}."));
    weights.only(&stem, &WITHIN_BLOCKS)?;
    let linear = |name: &str, from, to| weights.linear(&format!("{stem}{name}"), from, to);
    let norm = |name: &str| weights.layer_norm(&format!("{stem}{name}"), c, config.layer_norm_eps);
    let qkv = ["query", "key", "value"].map(|part| linear(&format!("attention.self.{part}"), c, c));
    let qkv = qkv.into_iter().collect::<Result<Vec<_>>>()?;
    let attention = Chain::new(vec![
        Stage::At(Site::ResidPre(l)),
        Stage::At(Site::AttnBias(l)),
        Stage::Residual(vec![
            Stage::Linear(Linear::stacked(&qkv)?),
            Stage::At(Site::Qkv(l)),
            Stage::Attention(Attention::new(config.num_attention_heads)?, Site::Pattern(l)),
            Stage::At(Site::Z(l)),
            Stage::Linear(linear("attention.output.dense", c, c)?),
            Stage::At(Site::AttnOut(l)),
        ]),
        Stage::LayerNorm(norm("attention.output.LayerNorm")?),
        Stage::At(Site::ResidMid(l)),
    ]);
    let feed_forward = Chain::new(vec![
        Stage::At(Site::MlpBias(l)),
        Stage::Residual(vec![
            Stage::Linear(linear("intermediate.dense", c, wide)?),
            Stage::Activation(config.hidden_act),
            Stage::Linear(linear("output.dense", wide, c)?),
            Stage::At(Site::MlpOut(l)),
        ]),
        Stage::LayerNorm(norm("output.LayerNorm")?),
        Stage::At(Site::ResidPost(l)),
    ]);
    Ok(Block { attention, feed_forward })
}

/// The pooler and the classifier on `[CLS]`.
fn classifier(weights: &Weights, config: &Config, classes: usize) -> Result<Chain> {
    let c = config.hidden_size;
    Ok(Chain::new(vec![
        Stage::At(Site::HeadBias),
        Stage::Linear(weights.linear("pooler.dense", c, c)?),
        Stage::Activation(Activation::Tanh),
        Stage::Linear(weights.linear("classifier", c, classes)?),
    ]))
}

/// The masked language model's head, if the checkpoint has one; its last matrix is the word embeddings, unless it brings
/// one of its own.
fn vocabulary(weights: &Weights, config: &Config, words: &Embedding) -> Result<Option<Chain>> {
    const HEAD: &str = "cls.predictions";
    if !weights.contains(&format!("{HEAD}.transform.dense.weight")) {
        return Ok(None);
    }
    let c = config.hidden_size;
    let decoder = format!("{HEAD}.decoder.weight");
    let bias = weights.get(config.vocab_size, &format!("{HEAD}.bias"))?;
    let decoder = match weights.contains(&decoder) {
        true => Linear::new(weights.get((config.vocab_size, c), &decoder)?, Some(bias))?,
        false => words.transposed(Some(bias))?,
    };
    let norm: LayerNorm = weights.layer_norm(&format!("{HEAD}.transform.LayerNorm"), c, config.layer_norm_eps)?;
    Ok(Some(Chain::new(vec![
        Stage::Linear(weights.linear(&format!("{HEAD}.transform.dense"), c, c)?),
        Stage::Activation(config.hidden_act),
        Stage::LayerNorm(norm),
        Stage::Linear(decoder),
    ])))
}
