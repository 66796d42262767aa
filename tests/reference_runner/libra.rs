//! Cases of LibraGrad: gradients under its rules and without one or all of them, summed over layers and biases.

use candle_core::safetensors;
use pellucid::model::text::Text;
use pellucid::prelude::*;

use super::Fallible;
use super::case::Run;
use super::kinds::Got;
use super::last_logit;
use super::value::Value;
use super::vision::same_normalisation;
use crate::seer::Seer;

/// What is explained, as the files write it.
pub const LOGIT: &str = "logits[target]";
pub const PROBABILITY: &str = "softmax(logits)[target]";
pub const SIMILARITY: &str = "exp(logit_scale) * cos(image, text[target])";

/// Where relevance starts, as the files write it.
pub const STARTS: [&str; 3] = [
    "token embeddings (model.embed_tokens output)",
    "input of the first block (patch bias, CLS and positions are inside)",
    "input of the first vision block (after pre_layrnorm)",
];

/// What the files count as no token's.
pub const UNATTRIBUTED: &str = "biases that act after pooling (head, pooled norm) and the Mixer's token-mixing fc1";

/// The rules that a case names.
fn rules(run: &Run) -> Fallible<Rules> {
    let named = run.case.params.get("rules").and_then(|rules| rules.as_array()).ok_or("no list of rules")?;
    let constant = run.case.params.get("embedding_norm_constant").and_then(|constant| constant.as_bool());
    let mut rules = Rules::exact();
    for name in named {
        let rule = match name.as_str().unwrap_or_default() {
            "ln" => Rule::Norm,
            "att" => Rule::Attention,
            "act" => Rule::Activation,
            "half" => Rule::Gate,
            other => return Err(format!("the rule `{other}` is not known").into()),
        };
        rules = rules.with(rule, Rules::libragrad());
    }
    Ok(if constant == Some(true) { rules.with(Rule::Length, Rules::libragrad()) } else { rules })
}

/// Everything a case may expect of the layers' gradients.
pub fn layers(run: &Run) -> Fallible<Got> {
    let target = match run.word("F")? {
        PROBABILITY => Target::Probability(run.count("target")?),
        LOGIT | last_logit::LAST | SIMILARITY => Target::Logit(run.count("target")?),
        other => return Err(format!("`F` says «{other}», which is not known").into()),
    };
    let why = match run.architecture()?.ends_with("ForCausalLM") {
        true => of_text(run, target)?,
        false => of_picture(run, target)?,
    };
    fields(run, &why)
}

fn of_text(run: &Run, target: Target) -> Fallible<LayerGradients> {
    let llm = run.llm()?;
    let prompt: Text = run.prompt(&llm)?;
    let libra = llm.under(rules(run)?);
    let x = libra.embed(&prompt)?.unsqueeze(0)?;
    let last = prompt.len() - 1;
    Ok(layer_gradients(|hook| target.of(&libra.logits_hooked(&x, hook)?.i((.., last))?), libra.layers())?)
}

fn of_picture(run: &Run, target: Target) -> Fallible<LayerGradients> {
    let seer = Seer::of(run)?.under(rules(run)?);
    same_normalisation(run, seer.vision().patches().processor())?;
    let x = seer.vision().pixels(&run.picture()?)?.unsqueeze(0)?;
    Ok(layer_gradients(|hook| target.of(&seer.logits_hooked(&x, hook)?), seer.layers())?)
}

fn fields(run: &Run, why: &LayerGradients) -> Fallible<Got> {
    let relevance = |layer: usize| Ok(why.relevance(layer)?.squeeze(0)?);
    let all = (0..=why.layers()).map(relevance).collect::<Result<Vec<_>>>()?;
    // where the norm after the last block reads what tokens have become, the files leave out what it reads
    let Value::Numbers(shape, _) = Value::decode(&run.case.expected["ixg_layers"])? else {
        return Err("layers in words".into());
    };
    let read = Tensor::stack(&all[..shape[0]], 0)?;
    let (biases, rest) = (Tensor::cat(&why.biases, 0)?, Tensor::cat(&why.unattributed, 0)?);
    let above = |layer: usize| {
        let layers = why.layers() + 1 - layer;
        (biases.narrow(0, layer, layers)?.sum_all()? + rest.narrow(0, layer, layers)?.sum_all()?).map_err(Error::from)
    };
    let above = Tensor::stack(&(0..=why.layers()).map(above).collect::<Result<Vec<_>>>()?, 0)?;
    let score = why.output.to_dtype(DType::F64)?.squeeze(0)?;
    let of_blocks = Tensor::stack(&all[..why.layers()], 0)?;
    let full = full_grad(why)?;
    let law = full.completeness.ok_or("FullGrad without its law")?;
    let mut got = Got::from([
        ("fullgrad".into(), full.scores.as_slice().into()),
        ("fullgrad_plus".into(), full_grad_plus(why)?.scores.as_slice().into()),
        ("fullgrad_plus_complete".into(), full_grad_plus_normalised(why)?.scores.as_slice().into()),
        ("skipplus".into(), skip_plus(why)?.scores.as_slice().into()),
        ("bias_unattributed".into(), law.unattributed.into()),
        ("completeness_error_fullgrad".into(), law.gap().abs().into()),
    ]);
    for (name, value) in [
        ("score", &score),
        ("ixg", &all[0]),
        ("ixg_layers", &read),
        ("layer_sums", &read.sum(1)?),
        ("bias_above", &above),
        ("bias_token_map", &biases.sum(0)?),
        ("mean_ixg_layers", &of_blocks.mean(0)?),
        ("gradient_mass", &all[0].abs()?.sum_all()?),
        ("completeness_error_ixg", &(all[0].sum_all()? - &score)?.abs()?),
    ] {
        got.insert(name.into(), Value::of(value)?);
    }
    Ok(got)
}

/// Gradient × input of normalised pixels; what is left is the patches' bias, positions and class token, and all other biases.
pub fn pixels(run: &Run) -> Fallible<Got> {
    run.says("F", LOGIT)?;
    run.says("x", "normalised pixel_values")?;
    let seer = Seer::of(run)?.under(rules(run)?);
    let processor = seer.vision().patches().processor();
    same_normalisation(run, processor)?;
    let (target, x) = (Target::Logit(run.count("target")?), seer.vision().pixels(&run.picture()?)?);
    let std = Tensor::new(&processor.normalisation().1, x.device())?.reshape((3, 1, 1))?.to_dtype(x.dtype())?;
    let gradient = grad_at(|x| target.of(&seer.logits(x)?), &x.unsqueeze(0)?)?.squeeze(0)?;
    let relevance = (processor.normalise(&x)? * gradient.broadcast_mul(&std)?)?.to_dtype(DType::F64)?;
    let x = x.unsqueeze(0)?;
    let why = layer_gradients(|hook| target.of(&seer.logits_hooked(&x, hook)?), seer.layers())?;
    let tokens = why.gradients[0].squeeze(0)?.to_dtype(DType::F64)?;
    let patches = tokens.narrow(0, seer.vision().patches().ahead(), seer.vision().patches().count())?;
    let added = Added::of(run)?;
    let mut others = 0.0;
    for part in why.biases.iter().chain(&why.unattributed) {
        others += part.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
    }
    let mut got = Got::from([("other_biases".into(), others.into())]);
    for (name, value) in [
        ("score", why.output.to_dtype(DType::F64)?.squeeze(0)?),
        ("ixg_pixels", relevance.clone()),
        ("map", relevance.sum(0)?),
        ("pixel_sum", relevance.sum_all()?),
        ("patch_bias", patches.broadcast_mul(&added.bias)?.sum_all()?),
        ("position_and_cls", added.positions_and_class(&tokens)?),
    ] {
        got.insert(name.into(), Value::of(&value)?);
    }
    Ok(got)
}

/// What is added on the way from pixels to the first block, from the checkpoint itself.
struct Added {
    bias: Tensor,
    positions: Option<Tensor>,
    class: Option<Tensor>,
}

impl Added {
    fn of(run: &Run) -> Fallible<Self> {
        let weights = safetensors::load(run.folder()?.join("model.safetensors"), &device()?)?;
        let find = |ends: &[&str]| {
            let named = weights.iter().find(|(name, _)| ends.iter().any(|end| name.ends_with(end)));
            named.map(|(_, weight)| weight.to_dtype(DType::F64)).transpose()
        };
        Ok(Self {
            bias: find(&["projection.bias", "patch_embed.proj.bias", "stem.proj.bias"])?.ok_or("no patch bias")?,
            positions: find(&["position_embeddings", "pos_embed"])?,
            class: find(&["cls_token"])?,
        })
    }

    /// Σ of positions and class token times the gradient of the tokens `(t,c)`.
    fn positions_and_class(&self, tokens: &Tensor) -> Result<Tensor> {
        let mut sum = tokens.zeros_like()?;
        if let Some(positions) = &self.positions {
            let positions = positions.squeeze(0)?;
            let ahead = tokens.dim(0)? - positions.dim(0)?;
            sum = (sum + positions.pad_with_zeros(0, ahead, 0)?)?;
        }
        if let Some(class) = &self.class {
            sum = (sum + class.squeeze(0)?.pad_with_zeros(0, 0, tokens.dim(0)? - 1)?)?;
        }
        Ok((sum * tokens)?.sum_all()?)
    }
}

impl Seer {
    /// The same model, walked back by these rules; its prompts stay.
    fn under(&self, rules: Rules) -> Self {
        match self {
            Self::Vit(vit) => Self::Vit(vit.under(rules)),
            Self::Mixer(mixer) => Self::Mixer(mixer.under(rules)),
            Self::Clip(clip, prompts) => Self::Clip(clip.under(rules), prompts.clone()),
        }
    }

    fn layers(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.layers(),
            Self::Mixer(mixer) => mixer.layers(),
            Self::Clip(clip, _) => clip.layers(),
        }
    }

    fn logits_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        match self {
            Self::Vit(vit) => vit.logits_hooked(x, hook),
            Self::Mixer(mixer) => mixer.logits_hooked(x, hook),
            Self::Clip(clip, prompts) => clip.logits_hooked(prompts, x, hook),
        }
    }
}
