//! What a vision transformer's files say, in Hugging Face's words and in timm's.

use serde::Deserialize;
use serde_json::Value;

use crate::model::blocks::Activation;
use crate::model::checkpoint::Checkpoint;
use crate::model::encoder::{NAMELESS, Names, Qkv};
use crate::model::labels::Named;
use crate::model::processor::Processor;
use crate::{Error, Result};

/// What the weights of a layout are called.
pub(super) struct Layout {
    /// Class token, distillation token, registers.
    pub front: [&'static str; 3],
    pub positions: &'static str,
    pub projection: &'static str,
    pub norm_before: &'static str,
    pub names: Names,
    pub norm: &'static str,
    /// The norm of pooled patches.
    pub norm_pooled: &'static str,
    /// A classifier on the class token, or two: on the class and on the distillation token.
    pub heads: [&'static str; 3],
    /// What checkpoints hold besides, and a classifier does not use.
    pub unused: &'static [&'static str],
}

pub(super) const HUGGING_FACE: Layout = Layout {
    front: ["embeddings.cls_token", "embeddings.distillation_token", "embeddings.register_tokens"],
    positions: "embeddings.position_embeddings",
    projection: "embeddings.patch_embeddings.projection",
    norm_before: "",
    names: Names {
        blocks: "encoder.layer.",
        norms: ["layernorm_before", "layernorm_after"],
        qkv: Qkv::Apart(["attention.attention.query", "attention.attention.key", "attention.attention.value"]),
        out: "attention.output.dense",
        mlp: ["intermediate.dense", "output.dense"],
        ..NAMELESS
    },
    norm: "layernorm",
    norm_pooled: "",
    heads: ["classifier", "cls_classifier", "distillation_classifier"],
    unused: &["pooler.dense", "embeddings.mask_token"],
};

pub(super) const TIMM: Layout = Layout {
    front: ["cls_token", "dist_token", "reg_token"],
    positions: "pos_embed",
    projection: "patch_embed.proj",
    norm_before: "norm_pre",
    names: Names {
        blocks: "blocks.",
        norms: ["norm1", "norm2"],
        qkv: Qkv::Packed(["attn.qkv.weight", "attn.qkv.bias"]),
        out: "attn.proj",
        mlp: ["mlp.fc1", "mlp.fc2"],
        scales: ["ls1.gamma", "ls2.gamma"],
        ..NAMELESS
    },
    norm: "norm",
    norm_pooled: "fc_norm",
    heads: ["head", "head_dist", ""],
    unused: &[],
};

/// BEiT, by timm's names: scores depend on how patches stand to each other, not on where they stand.
pub(super) const BEIT: Layout = Layout {
    names: Names {
        qkv: KEYLESS,
        displacements: ["attn.relative_position_bias_table", "attn.relative_position_index"],
        scales: ["gamma_1", "gamma_2"],
        ..TIMM.names
    },
    ..TIMM
};

/// EVA-02, by timm's names: queries and keys turn by where patches stand, and the feed-forward network is gated.
pub(super) const EVA: Layout =
    Layout { names: Names { qkv: KEYLESS, mlp: ["mlp.fc1", "mlp.fc2"], ..TIMM.names }, ..TIMM };

/// The larger EVA-02s, whose gates are matrices of their own.
pub(super) const EVA_APART: Layout = Layout {
    names: Names { mlp: ["mlp.fc1_x", "mlp.fc2"], gate: "mlp.fc1_g", mlp_norm: "mlp.norm", ..EVA.names },
    ..EVA
};

const KEYLESS: Qkv = Qkv::Keyless {
    packed: "attn.qkv.weight",
    biases: ["attn.q_bias", "attn.v_bias"],
    apart: ["attn.q_proj", "attn.k_proj", "attn.v_proj"],
};

impl Layout {
    /// Every name outside the blocks, and the stem of those inside.
    pub fn all(&self) -> Vec<&'static str> {
        let single =
            [self.positions, self.projection, self.norm_before, self.norm, self.norm_pooled, self.names.blocks];
        [&self.front[..], &single, &self.heads, self.unused].concat()
    }
}

/// A model's configuration, whoever wrote it.
pub(super) struct Config {
    pub layout: &'static Layout,
    /// What every name of the backbone may begin with.
    pub prefix: &'static str,
    pub processor: Processor,
    /// Height and width of pictures, in pixels.
    pub size: [usize; 2],
    pub channels: usize,
    pub layers: Option<usize>,
    pub heads: usize,
    pub eps: f64,
    pub activation: Activation,
    /// Rows and columns of the grid by which queries and keys turn, whatever the picture's own, if they turn.
    pub turned: Option<[usize; 2]>,
    pub named: Named,
    /// Whether patches are averaged; as the weights look if the files do not say.
    pub pooled: Option<bool>,
}

impl Config {
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let json: Value = checkpoint.config()?;
        match json.get("architecture").and_then(Value::as_str) {
            Some(name) => timm(checkpoint, name, &json),
            None => hugging_face(checkpoint),
        }
    }
}

/// Which models there are.
const KNOWN: &str = "timm's `vit_…`, `flexivit_…`, `deit_…` and `deit3_…` of plain blocks, `beit_…`, `beitv2_…` and `eva02_…`, and \
                     Hugging Face's `vit` and `deit`";

/// A side, or height and width.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Sides {
    One(usize),
    Two([usize; 2]),
}

impl Sides {
    fn both(self) -> [usize; 2] {
        match self {
            Self::One(side) => [side, side],
            Self::Two(sides) => sides,
        }
    }
}

#[derive(Deserialize)]
struct HuggingFace {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_act: Activation,
    #[serde(default = "tiny")]
    layer_norm_eps: f64,
    image_size: Sides,
    #[serde(flatten)]
    named: Named,
}

fn tiny() -> f64 {
    1e-12
}

fn hugging_face(checkpoint: &Checkpoint) -> Result<Config> {
    let kind = checkpoint.kind(&["vit", "deit"], KNOWN)?;
    let config: HuggingFace = checkpoint.config()?;
    Ok(Config {
        layout: &HUGGING_FACE,
        prefix: if kind == "vit" { "vit." } else { "deit." },
        processor: Processor::of(checkpoint)?,
        size: config.image_size.both(),
        channels: config.hidden_size,
        layers: Some(config.num_hidden_layers),
        heads: config.num_attention_heads,
        eps: config.layer_norm_eps,
        activation: config.hidden_act,
        turned: None,
        named: config.named,
        pooled: Some(false),
    })
}

/// timm's `model_args`, as far as the weights do not tell.
#[derive(Deserialize)]
struct Arguments {
    img_size: Option<Sides>,
    num_heads: Option<usize>,
    global_pool: Option<String>,
    embed_dim: Option<usize>,
    depth: Option<usize>,
    ref_feat_shape: Option<Sides>,
}

/// Arguments that are read, and those whose outcome the names and shapes of the weights show. Any other could change the
/// forward unseen.
const ARGUMENTS: &[&str] = &[
    "img_size",
    "num_heads",
    "global_pool",
    "embed_dim",
    "depth",
    "patch_size",
    "num_classes",
    "class_token",
    "init_values",
    "qkv_bias",
    "reg_tokens",
    "no_embed_class",
    "pre_norm",
    "fc_norm",
    "mlp_ratio",
    "dynamic_img_size",
    "final_norm",
    "in_chans",
    "drop_path_rate",
    "ref_feat_shape",
    "qkv_fused",
    "scale_mlp",
];

/// timm's `model_args`, refused if there is one that is not known.
pub(in crate::model) fn arguments<T: serde::de::DeserializeOwned>(json: &Value, known: &[&str]) -> Result<T> {
    let arguments = json.get("model_args").cloned().unwrap_or(Value::Object(Default::default()));
    let mut keys = arguments.as_object().into_iter().flat_map(|map| map.keys());
    match keys.find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Error::argument(format!("the model argument `{key}` is not known"))),
        None => Ok(serde_json::from_value(arguments)?),
    }
}

fn timm(checkpoint: &Checkpoint, name: &str, json: &Value) -> Result<Config> {
    if !name.split('_').enumerate().all(known_word) {
        return Err(Error::Architecture {
            source_name: checkpoint.name().into(),
            found: name.into(),
            known: KNOWN.into(),
        });
    }
    let broken = |error: &dyn std::fmt::Display| Error::file(checkpoint.place("config.json"), error);
    let arguments: Arguments = arguments(json, ARGUMENTS).map_err(|error| broken(&error))?;
    let channels = arguments.embed_dim.or(json["num_features"].as_u64().map(|c| c as usize));
    let channels =
        channels.ok_or_else(|| broken(&"neither num_features nor model_args.embed_dim says how wide it is"))?;
    let pool = arguments.global_pool.as_deref().or(json["global_pool"].as_str());
    let input = &json["pretrained_cfg"]["input_size"];
    let trained_on = || [1, 2].map(|side| input[side].as_u64().unwrap_or(0) as usize);
    let layout = layout(name);
    Ok(Config {
        layout,
        prefix: "",
        processor: Processor::timm(&json["pretrained_cfg"]).map_err(|error| broken(&error))?,
        size: arguments.img_size.map_or_else(trained_on, Sides::both),
        channels,
        layers: arguments.depth,
        // where the table does not say otherwise, 64 channels per head
        heads: arguments.num_heads.or_else(|| first(HEADS, name)).unwrap_or(channels / 64),
        // PyTorch's own, which CLIP was trained with, or timm's
        eps: if name.contains("_clip_") { 1e-5 } else { 1e-6 },
        activation: first(ACTIVATIONS, name).unwrap_or(Activation::Gelu),
        turned: name.starts_with("eva02").then(|| arguments.ref_feat_shape.map_or([16, 16], Sides::both)), // of the training's pictures
        named: Named::listed(serde_json::from_value(json["label_names"].clone())?),
        pooled: pool.map(averages).transpose().map_err(|error| broken(&error))?,
    })
}

/// Whether patches are averaged.
///
/// Errors: they are pooled in another way.
fn averages(pooling: &str) -> Result<bool> {
    match pooling {
        "avg" => Ok(true),
        "token" => Ok(false),
        other => Err(Error::argument(format!("the pooling `{other}` is not known"))),
    }
}

/// What timm's names are made of, but for numbers. A word that is not here (`rpn`, `rope`, `radio`, …) stands for another
/// forward, and not always for other names of weights.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "wee", "little", "tiny", "xsmall", "small", "medium", "mediumd", "betwixt", "base", "large", "huge", "giant",
    "giantopt", "gigantic", "so150m", "so150m2", "so400m", "intern300m",
    "plus", "gap", "clip", "quickgelu", "siglip", "dinov2", "tipsv2", "miil", "distilled",
];

/// What a timm model's weights are called.
fn layout(name: &str) -> &'static Layout {
    match name {
        name if name.starts_with("beit") => &BEIT,
        name if name.starts_with("eva02_base") || name.starts_with("eva02_large") => &EVA_APART,
        name if name.starts_with("eva02") => &EVA,
        _ => &TIMM,
    }
}

/// Whether a word at its place in a name is one of a model's that we know.
fn known_word((place, word): (usize, &str)) -> bool {
    let number = ["patch", "reg"].iter().find_map(|kind| word.strip_prefix(kind)).unwrap_or(word);
    match place {
        0 => ["vit", "flexivit", "deit", "deit3", "beit", "beitv2", "eva02"].contains(&word),
        _ => WORDS.contains(&word) || number.parse::<usize>().is_ok(),
    }
}

/// Parts of timm's names, all of which a model's has, and what that says of it. The first row that fits is the model's.
type Table<T> = &'static [(&'static [&'static str], T)];

/// How many heads there are, however wide the model is.
const HEADS: Table<usize> = &[
    (&["giant_", "dinov2"], 24),
    (&["giant_", "tipsv2"], 24),
    (&["huge"], 16),
    (&["giant"], 16),
    (&["gigantic"], 16),
    (&["so400m"], 16),
    (&["base_patch16_gap"], 16),
];

/// The exact GELU, but for EVA-02, the gated giants, OpenAI's weights, and SigLIP's later sizes.
const ACTIVATIONS: Table<Activation> = &[
    (&["eva02"], Activation::Silu),
    (&["giant_", "dinov2"], Activation::Silu),
    (&["giant_", "tipsv2"], Activation::Silu),
    (&["quickgelu"], Activation::QuickGelu),
    (&["base_patch32_siglip"], Activation::GeluNew),
    (&["large_patch16_siglip_gap_512"], Activation::GeluNew),
    (&["giantopt_patch16"], Activation::GeluNew),
    (&["so400m_patch16"], Activation::GeluNew),
];

fn first<T: Copy>(table: Table<T>, name: &str) -> Option<T> {
    table.iter().find(|row| row.0.iter().all(|part| name.contains(part))).map(|row| row.1)
}
