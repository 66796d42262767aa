//! GGUF: one file that holds a model's quantised weights, its configuration, its tokenizer and its chat template.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{Content, Value};
use serde_json::{Map, Value as Json, json};

use super::split::split;
use crate::{Error, Result};

/// An open GGUF file.
#[derive(Clone)]
pub(crate) struct Gguf {
    path: PathBuf,
    content: Arc<Content>,
    reader: Arc<Mutex<BufReader<File>>>,
}

/// Hugging Face's names of a decoder's tensors and GGUF's; `{l}` is the layer.
const NAMES: &[(&str, &str)] = &[
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

impl Gguf {
    /// Reads a file's header; its tensors are read when they are asked for.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::file(path, error))?;
        let mut reader = BufReader::new(file);
        let content = Content::read(&mut reader).map_err(|error| unreadable(path, &error))?;
        Ok(Self { path: path.into(), content: Arc::new(content), reader: Arc::new(Mutex::new(reader)) })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The shapes of its tensors, by their names as Hugging Face has them.
    pub fn shapes(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        self.content.tensor_infos.iter().map(|(name, info)| (hugging_face_name(name), info.shape.dims().to_vec()))
    }

    /// A tensor by Hugging Face's name, as it is packed.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<QTensor> {
        let mut reader = self.reader.lock().map_err(|_| Error::file(&self.path, "a reader of this file panicked"))?;
        let tensor = self.content.tensor(&mut *reader, &gguf_name(name), device);
        tensor.map_err(|error| {
            Error::file(&self.path, format!("`{name}` cannot be read ({error}): the file is truncated; fetch it again"))
        })
    }

    /// What `config.json` would say.
    pub fn config(&self) -> Result<Json> {
        let kind = self.word("general.architecture")?;
        let key = |name: &str| format!("{kind}.{name}");
        let count = |name: &str| self.number(&key(name)).map(|number| number as u64);
        let heads = count("attention.head_count")?;
        let hidden = count("embedding_length")?;
        let vocabulary = self.list("tokenizer.ggml.tokens").map_or(0, <[Value]>::len);
        Ok(json!({
            "model_type": kind,
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "intermediate_size": count("feed_forward_length")?,
            "num_hidden_layers": count("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": count("attention.head_count_kv").unwrap_or(heads),
            "head_dim": count("attention.key_length").unwrap_or(hidden / heads.max(1)),
            "hidden_act": "silu",
            "max_position_embeddings": count("context_length")?,
            "rms_norm_eps": self.number(&key("attention.layer_norm_rms_epsilon"))?,
            "rope_theta": self.number(&key("rope.freq_base")).unwrap_or(10000.0),
            "rope_scaling": self.rope_scaling(&kind)?,
            "eos_token_id": self.number("tokenizer.ggml.eos_token_id").ok().map(|id| id as u64),
            "tie_word_embeddings": !self.content.tensor_infos.contains_key("output.weight"),
            "rope_pairs": if kind == "llama" { "neighbours" } else { "halves" },
        }))
    }

    fn rope_scaling(&self, kind: &str) -> Result<Json> {
        match self.word(&format!("{kind}.rope.scaling.type")) {
            Err(_) => Ok(Json::Null),
            Ok(rule) if rule == "none" => Ok(Json::Null),
            Ok(rule) => Ok(json!({
                "rope_type": rule,
                "factor": self.number(&format!("{kind}.rope.scaling.factor"))?,
            })),
        }
    }

    /// The chat template, if the file has one.
    pub fn chat_template(&self) -> Option<String> {
        self.word("tokenizer.chat_template").ok()
    }

    /// What `tokenizer.json` would say.
    ///
    /// Errors: a vocabulary of another kind than byte-level BPE, or one cut by rules that are not known here.
    pub fn tokenizer(&self) -> Result<Json> {
        let (kind, rules) = (self.word("tokenizer.ggml.model")?, self.word("tokenizer.ggml.pre"));
        let rules = rules.unwrap_or_else(|_| "default".into());
        let split = split(&rules).filter(|_| kind == "gpt2").ok_or_else(|| {
            Error::file(
                &self.path,
                format!(
                    "its tokenizer is of the kind `{kind}`, cut by the rules `{rules}`; known here is `gpt2` with \
                     `llama-bpe`, `qwen2` or `default`. Put the model's tokenizer.json beside the file"
                ),
            )
        })?;
        let tokens = self.words("tokenizer.ggml.tokens")?;
        let vocabulary: Map<String, Json> = tokens.iter().enumerate().map(|(id, t)| (t.clone(), json!(id))).collect();
        Ok(json!({
            "version": "1.0",
            "added_tokens": self.added_tokens(&tokens)?,
            "normalizer": if rules == "qwen2" { json!({"type": "NFC"}) } else { Json::Null },
            "pre_tokenizer": split,
            "post_processor": self.frame(&tokens, rules == "llama-bpe"),
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
            "model": {
                "type": "BPE", "vocab": vocabulary, "merges": self.words("tokenizer.ggml.merges")?,
                "ignore_merges": rules == "llama-bpe",
            },
        }))
    }

    /// Control tokens (kind 3) are special, tokens of the user's (kind 4) are taken whole.
    fn added_tokens(&self, tokens: &[String]) -> Result<Vec<Json>> {
        let kinds = self.list("tokenizer.ggml.token_type").unwrap_or_default();
        let kind = |value: &Value| value.to_i32().unwrap_or(1);
        let added = kinds.iter().zip(tokens).enumerate().filter(|(_, (value, _))| matches!(kind(value), 3 | 4));
        let added = added.map(|(id, (value, token))| {
            json!({"id": id, "content": token, "special": kind(value) == 3, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false})
        });
        Ok(added.collect())
    }

    /// The names of the tokens that a chat template may use, as `tokenizer_config.json` has them.
    pub fn named_tokens(&self) -> Result<Json> {
        let tokens = self.words("tokenizer.ggml.tokens")?;
        let token = |key: &str| tokens.get(self.number(&format!("tokenizer.ggml.{key}_token_id")).ok()? as usize);
        Ok(json!({"bos_token": token("bos"), "eos_token": token("eos")}))
    }

    /// The token that every text begins with, if there is one. Llama 3's older files do not say that there is.
    fn frame(&self, tokens: &[String], usual: bool) -> Json {
        let wanted = self.content.metadata.get("tokenizer.ggml.add_bos_token").and_then(|value| value.to_bool().ok());
        let first = self.number("tokenizer.ggml.bos_token_id").ok().map(|id| id as usize);
        match first.filter(|_| wanted.unwrap_or(usual)).and_then(|id| Some((id, tokens.get(id)?))) {
            None => Json::Null,
            Some((id, token)) => json!({
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                         {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
            }),
        }
    }

    fn value(&self, key: &str) -> Result<&Value> {
        let missing = || Error::file(&self.path, format!("there is no `{key}` in its header: it is no whole model"));
        self.content.metadata.get(key).ok_or_else(missing)
    }

    fn number(&self, key: &str) -> Result<f64> {
        let value = self.value(key)?;
        let number = value.to_u64().map(|n| n as f64).or_else(|_| value.to_i64().map(|n| n as f64));
        let number = number.or_else(|_| value.to_f64()).or_else(|_| value.to_f32().map(f64::from));
        number.map_err(|_| Error::file(&self.path, format!("`{key}` is {value:?}, not a number")))
    }

    fn word(&self, key: &str) -> Result<String> {
        Ok(self.value(key)?.to_string()?.clone())
    }

    fn list(&self, key: &str) -> Result<&[Value]> {
        Ok(self.value(key)?.to_vec()?)
    }

    fn words(&self, key: &str) -> Result<Vec<String>> {
        let words = self.list(key)?.iter().map(|value| value.to_string().cloned());
        Ok(words.collect::<candle_core::Result<_>>()?)
    }
}

fn unreadable(path: &Path, error: &candle_core::Error) -> Error {
    let said = error.to_string();
    Error::file(
        path,
        match said.contains("unknown dtype") {
            true => format!(
                "a quantisation that is not known here ({said}); known are Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, \
                 Q5_K, Q6_K, F16, BF16 and F32. Fetch the model in one of them, Q4_K_M for instance"
            ),
            false => format!("not a whole GGUF file ({said}): it is truncated or of another format; fetch it again"),
        },
    )
}

/// `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`.
fn hugging_face_name(name: &str) -> String {
    renamed(name, "blk.", "model.layers.", |(theirs, ours)| (ours, theirs))
}

/// The other way round.
fn gguf_name(name: &str) -> String {
    renamed(name, "model.layers.", "blk.", |(theirs, ours)| (theirs, ours))
}

fn renamed<'a>(
    name: &str,
    layers: &str,
    into: &str,
    pick: impl Fn((&'a str, &'a str)) -> (&'a str, &'a str),
) -> String {
    let (stem, part) = name.rsplit_once('.').unwrap_or((name, ""));
    let layer = stem.strip_prefix(layers).and_then(|rest| rest.split_once('.'));
    let (front, stem) = layer.map_or((String::new(), stem), |(l, rest)| (format!("{into}{l}."), rest));
    let found = NAMES.iter().map(|&row| pick(row)).find(|row| row.0 == stem);
    format!("{front}{}.{part}", found.map_or(stem, |row| row.1))
}
