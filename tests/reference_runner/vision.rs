//! Cases on models that see.

use pellucid::prelude::*;

use super::Fallible;
use super::attention;
use super::case::Run;
use super::clip;
use super::kinds::Got;
use super::peer::{Explained, Peer};
use super::units;
use super::value::Value;
use super::vision_language;
use crate::seer::Seer;

/// What CLIP's logits are, as the files write it.
pub const SIMILARITY: &str = "logits_per_image[0, target] = exp(logit_scale) * cosine";

impl Seer {
    /// The case's model; a CLIP with the case's texts.
    pub fn of(run: &Run) -> Fallible<Self> {
        Ok(match run.architecture()?.as_str() {
            "MlpMixer" => Self::Mixer(run.mixer()?),
            "CLIPModel" => {
                let clip = run.clip()?;
                let prompts = clip::prompts(run, &clip)?;
                Self::Clip(clip, prompts)
            }
            _ => Self::Vit(run.vit()?),
        })
    }

    /// `L × (1,h,t,t)`.
    pub fn attention(&self, picture: &Image) -> Fallible<Vec<Tensor>> {
        match self {
            Self::Vit(vit) => Ok(vit.attention(picture)?),
            Self::Clip(clip, _) => Ok(clip.attention(picture)?),
            Self::Mixer(_) => Err("a Mixer has no attention".into()),
        }
    }

    /// The class token's row of a rollout `(1,t,t)` as a map of the patches, added to other fields.
    pub fn maps(&self, rolled: &Tensor, mut got: Got) -> Fallible<Got> {
        let row = rolled.i((0, 0))?;
        let map = self.vision().on_grid(&row)?;
        got.insert("cls_map".into(), Value::of(&map)?);
        got.insert("cls_map_over_max".into(), Value::of(&map.broadcast_div(&map.max_all()?)?)?);
        Ok(got)
    }
}

/// Mean and std are the checkpoint's own.
pub fn same_normalisation(run: &Run, processor: &Processor) -> Fallible<()> {
    let (mean, std) = processor.normalisation();
    for (name, ours) in [("mean", mean), ("std", std)] {
        let theirs = Value::nested(run.case.params.get(name).ok_or("no normalisation")?)?;
        if theirs.distance(&ours.as_slice().into()) > 1e-9 {
            return Err(format!("{name}: {ours:?}, and the case has {theirs:?}").into());
        }
    }
    Ok(())
}

/// Normalised pixels, logits, and attention patterns where there are any.
pub fn forward(run: &Run) -> Fallible<Got> {
    let (seer, picture) = (Seer::of(run)?, run.picture()?);
    same_normalisation(run, seer.vision().patches().processor())?;
    let x = seer.vision().pixels(&picture)?;
    let logits = seer.logits(&x.unsqueeze(0)?)?.squeeze(0)?;
    let mut got = match seer {
        Seer::Mixer(_) => Got::new(),
        _ => attention::fields(&seer.attention(&picture)?)?,
    };
    got.insert("pixel_values".into(), Value::of(&seer.vision().patches().processor().normalise(&x)?)?);
    got.insert("argmax".into(), Value::from(f64::from(logits.argmax(0)?.to_scalar::<u32>()?)));
    got.insert("logits".into(), Value::of(&logits)?);
    Ok(got)
}

/// A picture of another size, resized and normalised.
pub fn preprocess(run: &Run) -> Fallible<Got> {
    let vit = run.vit()?;
    same_normalisation(run, vit.patches().processor())?;
    let size = Value::nested(run.case.params.get("size").ok_or("no size")?)?.ids()?;
    let fitted = vit.fit(&run.picture()?)?;
    if [fitted.height() as u32, fitted.width() as u32] != size[..] {
        return Err(format!("the picture came out as {fitted:?}").into());
    }
    Ok(Got::from([("pixel_values".into(), Value::of(&vit.patches().processor().normalise(&vit.pixels(&fitted)?)?)?)]))
}

/// Integrated Gradients over the pixels between 0 and 1, from black.
pub fn integrated_gradients(run: &Run) -> Fallible<Got> {
    run.says("baseline", "zeros in [0,1] pixel space (black)")?;
    if run.architecture()?.ends_with("VLForConditionalGeneration") {
        return vision_language::integrated_gradients(run);
    }
    let seer = Seer::of(run)?;
    same_normalisation(run, seer.vision().patches().processor())?;
    let target = Target::Logit(run.count("target")?);
    let x = seer.vision().pixels(&run.picture()?)?;
    let peer = Peer::new(run.word("method")?, run.count("n_steps")?)?;
    let explained = peer.explain(|x| target.of(&seer.logits(x)?), &x, &x.zeros_like()?)?;
    pixel_fields(&explained)
}

/// An explanation of pixels by the names of the files.
pub fn pixel_fields(explained: &Explained) -> Fallible<Got> {
    let mut got = units::fields(explained)?;
    let attr = explained.attribution.tensor()?;
    let map = attr.abs()?.sum(0)?;
    let (height, width) = map.dims2()?;
    let pool = if height % 16 == 0 && width % 16 == 0 { 16 } else { 8 };
    let pooled = map.reshape((pool, height / pool, pool, width / pool))?.mean(3)?.mean(1)?;
    let channels = attr.sum((1, 2))?;
    let total = map.sum_all()?;
    for (name, value) in
        [("map", &map), ("pooled", &pooled), ("signed_sum_per_channel", &channels), ("abs_sum", &total)]
    {
        got.insert(name.into(), Value::of(value)?);
    }
    Ok(got)
}
