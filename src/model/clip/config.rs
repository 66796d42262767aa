//! What CLIP's files say, in Hugging Face's words and in open_clip's.

use serde::Deserialize;
use serde_json::Value;

use crate::model::blocks::Activation;
use crate::model::checkpoint::Checkpoint;
use crate::model::encoder::{NAMELESS, Names, Qkv};
use crate::model::processor::Processor;
use crate::{Error, Result};

/// What the weights of a layout are called.
pub(super) struct Layout {
    pub class: &'static str,
    pub image_positions: &'static str,
    pub projection: &'static str,
    pub norm_before: &'static str,
    pub image: Names,
    pub image_norm: &'static str,
    pub image_projection: &'static str,
    pub words: &'static str,
    pub text_positions: &'static str,
    pub text: Names,
    pub text_norm: &'static str,
    pub text_projection: &'static str,
    /// Whether projections are stored `(c,d)`, for x·P, rather than `(d,c)`.
    pub projects_from_the_right: bool,
    /// What checkpoints hold besides, and a forward does not use.
    pub unused: [&'static str; 2],
}

pub(super) const HUGGING_FACE: Layout = Layout {
    class: "vision_model.embeddings.class_embedding",
    image_positions: "vision_model.embeddings.position_embedding.weight",
    projection: "vision_model.embeddings.patch_embedding",
    norm_before: "vision_model.pre_layrnorm",
    image: hugging_face("vision_model.encoder.layers."),
    image_norm: "vision_model.post_layernorm",
    image_projection: "visual_projection.weight",
    words: "text_model.embeddings.token_embedding",
    text_positions: "text_model.embeddings.position_embedding.weight",
    text: hugging_face("text_model.encoder.layers."),
    text_norm: "text_model.final_layer_norm",
    text_projection: "text_projection.weight",
    projects_from_the_right: false,
    unused: ["vision_model.embeddings.position_ids", "text_model.embeddings.position_ids"],
};

pub(super) const OPEN_CLIP: Layout = Layout {
    class: "visual.class_embedding",
    image_positions: "visual.positional_embedding",
    projection: "visual.conv1",
    norm_before: "visual.ln_pre",
    image: open_clip("visual.transformer.resblocks."),
    image_norm: "visual.ln_post",
    image_projection: "visual.proj",
    words: "token_embedding",
    text_positions: "positional_embedding",
    text: open_clip("transformer.resblocks."),
    text_norm: "ln_final",
    text_projection: "text_projection",
    projects_from_the_right: true,
    unused: ["attn_mask", "visual.attn_mask"],
};

const fn hugging_face(blocks: &'static str) -> Names {
    Names {
        blocks,
        norms: ["layer_norm1", "layer_norm2"],
        qkv: Qkv::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        out: "self_attn.out_proj",
        mlp: ["mlp.fc1", "mlp.fc2"],
        ..NAMELESS
    }
}

const fn open_clip(blocks: &'static str) -> Names {
    Names {
        blocks,
        norms: ["ln_1", "ln_2"],
        qkv: Qkv::Packed(["attn.in_proj_weight", "attn.in_proj_bias"]),
        out: "attn.out_proj",
        mlp: ["mlp.c_fc", "mlp.c_proj"],
        scales: ["ls_1.gamma", "ls_2.gamma"],
        ..NAMELESS
    }
}

impl Layout {
    /// Every name outside the blocks, and the stems of those inside.
    pub fn all(&self) -> Vec<&'static str> {
        let image = [
            self.class,
            self.image_positions,
            self.projection,
            self.norm_before,
            self.image_norm,
            self.image_projection,
        ];
        let text = [self.words, self.text_positions, self.text_norm, self.text_projection];
        [&image[..], &text, &[self.image.blocks, self.text.blocks, "logit_scale"], &self.unused].concat()
    }
}

/// One of the two transformers.
pub(super) struct Tower {
    pub channels: usize,
    pub layers: usize,
    pub heads: usize,
    pub eps: f64,
    pub activation: Activation,
}

/// A model's configuration, whoever wrote it.
pub(super) struct Config {
    pub open_clip: bool,
    pub processor: Processor,
    /// Height and width of pictures, in pixels.
    pub size: [usize; 2],
    pub image: Tower,
    pub text: Tower,
    /// How many tokens a text may have.
    pub positions: usize,
}

impl Config {
    /// open_clip's `open_clip_config.json` where there is one and `config.json` is no CLIP's of Hugging Face.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        const FILE: &str = "open_clip_config.json";
        let known = "CLIP, as Hugging Face's `clip` or in open_clip's layout";
        let Err(other) = checkpoint.kind(&["clip"], known) else { return from_hugging_face(checkpoint) };
        let bytes = checkpoint.file(FILE)?.ok_or(other)?;
        let broken = |error: &dyn std::fmt::Display| Error::file(checkpoint.place(FILE), error);
        let json: OpenClip = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
        json.config().map_err(|error| broken(&error))
    }
}

#[derive(Deserialize)]
struct HuggingFace {
    #[serde(default)]
    text_config: Text,
    #[serde(default)]
    vision_config: Image,
}

/// What transformers takes for what a file leaves out is OpenAI's ViT-B/32.
#[derive(Deserialize)]
#[serde(default)]
struct Text {
    hidden_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f64,
    hidden_act: Activation,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            hidden_size: 512,
            num_attention_heads: 8,
            num_hidden_layers: 12,
            max_position_embeddings: 77,
            layer_norm_eps: 1e-5,
            hidden_act: Activation::QuickGelu,
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Image {
    hidden_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    image_size: usize,
    layer_norm_eps: f64,
    hidden_act: Activation,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_attention_heads: 12,
            num_hidden_layers: 12,
            image_size: 224,
            layer_norm_eps: 1e-5,
            hidden_act: Activation::QuickGelu,
        }
    }
}

fn from_hugging_face(checkpoint: &Checkpoint) -> Result<Config> {
    let HuggingFace { text_config: text, vision_config: image } = checkpoint.config()?;
    Ok(Config {
        open_clip: false,
        processor: Processor::of(checkpoint)?,
        size: [image.image_size; 2],
        positions: text.max_position_embeddings,
        image: Tower {
            channels: image.hidden_size,
            layers: image.num_hidden_layers,
            heads: image.num_attention_heads,
            eps: image.layer_norm_eps,
            activation: image.hidden_act,
        },
        text: Tower {
            channels: text.hidden_size,
            layers: text.num_hidden_layers,
            heads: text.num_attention_heads,
            eps: text.layer_norm_eps,
            activation: text.hidden_act,
        },
    })
}

#[derive(Deserialize)]
struct OpenClip {
    model_cfg: Model,
    #[serde(default = "empty")]
    preprocess_cfg: Value,
}

/// A key that is not here would make another network.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    #[serde(rename = "embed_dim")]
    _embed_dim: usize,
    vision_cfg: Vision,
    text_cfg: Words,
    #[serde(default)]
    quick_gelu: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vision {
    image_size: usize,
    layers: usize,
    width: usize,
    #[serde(rename = "patch_size")]
    _patch_size: usize,
    #[serde(default = "sixty_four")]
    head_width: usize,
    #[serde(default, rename = "mlp_ratio")]
    _mlp_ratio: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    context_length: usize,
    #[serde(rename = "vocab_size")]
    _vocab_size: usize,
    width: usize,
    heads: usize,
    layers: usize,
}

fn empty() -> Value {
    Value::Object(Default::default())
}

fn sixty_four() -> usize {
    64
}

impl OpenClip {
    fn config(self) -> Result<Config> {
        let Model { vision_cfg: image, text_cfg: text, quick_gelu, .. } = self.model_cfg;
        let activation = if quick_gelu { Activation::QuickGelu } else { Activation::Gelu };
        let tower = |channels, layers, heads| Tower { channels, layers, heads, eps: 1e-5, activation };
        Ok(Config {
            open_clip: true,
            processor: Processor::open_clip(&self.preprocess_cfg, image.image_size)?,
            size: [image.image_size; 2],
            positions: text.context_length,
            image: tower(image.width, image.layers, image.width / image.head_width.max(1)),
            text: tower(text.width, text.layers, text.heads),
        })
    }
}
