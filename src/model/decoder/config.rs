//! What `config.json` says of a decoder, in the words of transformers 4 or of transformers 5.

use serde::Deserialize;
use serde_json::Value;

use crate::model::blocks::{Activation, Pairing, Rope};
use crate::model::checkpoint::Checkpoint;
use crate::{Error, Result};

/// `config.json`, as far as the forward needs it.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::model) struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    #[serde(alias = "kv_channels")]
    head_dim: Option<usize>,
    #[serde(default = "silu")]
    pub hidden_act: Activation,
    max_position_embeddings: usize,
    #[serde(alias = "layer_norm_epsilon")]
    pub rms_norm_eps: f64,
    #[serde(alias = "rotary_emb_base")]
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeRule>,
    rope_parameters: Option<RopeRule>,
    #[serde(default)]
    rope_pairs: Pairing,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    use_sliding_window: Option<bool>,
    sliding_window: Option<usize>,
    #[serde(default)]
    eos_token_id: OneOrMany,
    /// Beyond so many tokens, the first Qwen lowers its frequencies and lengthens its queries.
    stretched_from: Option<usize>,
}

fn silu() -> Activation {
    Activation::Silu
}

/// How the angles of rotary embeddings are made: transformers 4's `rope_scaling` or 5's `rope_parameters`.
#[derive(Clone, Debug, Default, Deserialize)]
struct RopeRule {
    rope_type: Option<String>,
    /// The older word for it; some files have both.
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    /// How many pairs of channels go by time, by row and by column.
    mrope_section: Option<[usize; 3]>,
}

impl RopeRule {
    fn kind(&self) -> Option<&str> {
        self.rope_type.as_deref().or(self.old_type.as_deref())
    }

    /// The axis of every pair of channels.
    fn axes(&self, pairs: usize) -> Vec<usize> {
        match self.mrope_section {
            Some(sections) => (0..3).flat_map(|axis| vec![axis; sections[axis]]).collect(),
            None => vec![0; pairs],
        }
    }
}

/// How many pairs of channels Qwen2-VL and Qwen2.5-VL turn by time, by row and by column.
const SECTIONS: [usize; 3] = [16, 24, 24];

/// A token id, a list of them, or none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
    #[default]
    None,
}

impl OneOrMany {
    pub fn ids(&self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![*id],
            Self::Many(ids) => ids.clone(),
            Self::None => Vec::new(),
        }
    }
}

impl Config {
    /// What a checkpoint says of its language model.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let json = in_own_words(checkpoint.config()?);
        serde_json::from_value(json).map_err(|error| Error::file(checkpoint.place("config.json"), error))
    }

    /// With the sections of rotary embeddings that the published vision-language models have, where the file leaves them out.
    pub fn seeing(mut self) -> Self {
        let rule = self.rope_parameters.as_mut().or(self.rope_scaling.as_mut());
        match rule {
            Some(rule) => rule.mrope_section = rule.mrope_section.or(Some(SECTIONS)),
            None => self.rope_scaling = Some(RopeRule { mrope_section: Some(SECTIONS), ..RopeRule::default() }),
        }
        self
    }

    /// Whether so many tokens are read with other frequencies than fewer are.
    pub fn stretches(&self, tokens: usize) -> bool {
        self.stretched_from.is_some_and(|context| tokens > context)
    }

    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    pub fn end_of_text(&self) -> Vec<u32> {
        self.eos_token_id.ids()
    }

    /// How many tokens a text may have: beyond a sliding window, tokens would no longer see all others.
    pub fn positions(&self) -> usize {
        let window = self.sliding_window.filter(|_| self.use_sliding_window != Some(false));
        window.map_or(self.max_position_embeddings, |window| window.min(self.max_position_embeddings))
    }

    /// What is wrong with it, if anything is.
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Self { num_attention_heads: 0, .. } => Some("num_attention_heads must be at least 1"),
            Self { num_hidden_layers: 0, .. } => Some("num_hidden_layers must be at least 1"),
            Self { stretched_from: Some(0 | 1), .. } => Some(
                "use_dynamic_ntk and use_logn_attn are known only together, and with a seq_length of 2 at least to be measured \
                 against",
            ),
            config if config.head_dim() < 2 || !config.head_dim().is_multiple_of(2) => {
                Some("head_dim must be even, since rotary embeddings turn pairs of channels")
            }
            _ => None,
        }
    }

    /// The rotary embeddings of all query and key heads. Where a file brings `factors` `(d/2,)`, as GGUF does for Llama 3's
    /// rule, they divide the frequencies.
    ///
    /// Errors: a rule that is not known, or not whole.
    pub fn rope(&self, factors: Option<Vec<f64>>) -> Result<Rope> {
        let none = RopeRule::default();
        let rule = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()).unwrap_or(&none);
        let base = rule.rope_theta.or(self.rope_theta).unwrap_or(10000.0);
        let d = self.head_dim();
        let plain = (0..d / 2).map(|i| base.powf(-2.0 * i as f64 / d as f64));
        let frequencies: Vec<f64> = match rule.kind() {
            None | Some("default" | "mrope") => plain.collect(),
            Some("linear") => {
                let factor = rule.factor.ok_or_else(|| Error::argument("rope_type linear needs a factor"))?;
                plain.map(|theta| theta / factor).collect()
            }
            Some("llama3") => plain.map(|theta| llama3(theta, rule)).collect::<Result<_>>()?,
            Some(other) => {
                return Err(Error::argument(format!(
                    "rope_type `{other}` is not known; known are default, linear and llama3"
                )));
            }
        };
        let factors = factors.unwrap_or_else(|| vec![1.0; d / 2]);
        let frequencies = frequencies.iter().zip(factors).map(|(theta, factor)| theta / factor).collect();
        let rope = Rope::new(frequencies, self.rope_pairs, self.num_attention_heads + self.kv_heads())?;
        let rope = rope.along(rule.axes(d / 2))?;
        match self.stretched_from {
            Some(context) => rope.stretching(context, self.num_attention_heads),
            None => Ok(rope),
        }
    }
}

/// The configuration of a language model that is part of a larger one, at the top; and the first Qwen's in the words of others.
fn in_own_words(mut json: Value) -> Value {
    if let (Some(Value::Object(text)), Some(all)) = (json.get("text_config").cloned(), json.as_object_mut()) {
        all.extend(text.into_iter().filter(|(_, value)| !value.is_null()));
    }
    if json["model_type"] == "qwen" {
        // its file counts both halves of the gated layer
        json["intermediate_size"] = (json["intermediate_size"].as_u64().unwrap_or_default() / 2).into();
        json["stretched_from"] = match [&json["use_dynamic_ntk"], &json["use_logn_attn"]].map(|flag| *flag == true) {
            [true, true] => json["seq_length"].as_u64().unwrap_or_default().into(),
            [false, false] => Value::Null,
            _ => 0.into(),
        };
    }
    json
}

/// Llama 3's rule: waves longer than the original context are stretched by a factor, short ones kept, those between
/// blended (Grattafiori et al. 2024, arXiv 2407.21783; transformers' `_compute_llama3_parameters`).
fn llama3(theta: f64, rule: &RopeRule) -> Result<f64> {
    let missing = || {
        Error::argument(
            "rope_type llama3 needs factor, low_freq_factor, high_freq_factor and \
                                      original_max_position_embeddings",
        )
    };
    let (Some(factor), Some(low), Some(high), Some(context)) =
        (rule.factor, rule.low_freq_factor, rule.high_freq_factor, rule.original_max_position_embeddings)
    else {
        return Err(missing());
    };
    let turns = context as f64 * theta / (2.0 * std::f64::consts::PI);
    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
    Ok(theta * (kept + (1.0 - kept) / factor))
}
