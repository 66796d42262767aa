//! Models that see: the numbers of transformers, timm and open_clip, and what must hold whatever the weights.

#[path = "common/apart.rs"]
mod apart;
#[path = "common/seen.rs"]
mod seen;
#[path = "common/seer.rs"]
mod seer;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use apart::{far, largest, largest_difference};
use pellucid::candle_core::safetensors::{load, save};
use pellucid::prelude::*;
use seen::{copy, folder, picture};
use seer::Seer;
use serde::Deserialize;

const VITS: [&str; 15] = [
    "deit",
    "deit_with_teacher",
    "vit_oblong",
    "timm_beit",
    "timm_clip",
    "timm_deit3",
    "timm_distilled",
    "timm_eva",
    "timm_eva_apart",
    "timm_flexivit",
    "timm_giant",
    "timm_odd",
    "timm_registers",
    "timm_registers_mean",
    "timm_siglip",
];
const MIXER: &str = "timm_gmixer";
const CLIP: &str = "open_clip";

fn all() -> impl Iterator<Item = &'static str> {
    VITS.into_iter().chain([MIXER, CLIP])
}

/// What a library says of the picture of a model's size.
#[derive(Deserialize)]
struct Expected {
    size: [usize; 2],
    logits: Vec<f64>,
    target: usize,
    /// Of the target's logit, at the pixels.
    gradient: Vec<f64>,
    attention: Vec<Vec<f64>>,
    #[serde(default)]
    prompts: Vec<String>,
    /// Of the target's prompt, and at its words.
    #[serde(default)]
    text_attention: Vec<Vec<f64>>,
    #[serde(default)]
    text_gradient: Vec<f64>,
}

fn expected(name: &str) -> Result<Expected> {
    Ok(serde_json::from_slice(&fs::read(folder(name).join("expected.json"))?)?)
}

impl Seer {
    fn load(name: &str, dtype: DType) -> Result<Self> {
        Self::open(name, &folder(name), dtype)
    }

    fn open(name: &str, folder: &Path, dtype: DType) -> Result<Self> {
        let (source, load) = (folder.to_string_lossy(), Load { dtype, ..Load::default() });
        Ok(match name {
            MIXER => Self::Mixer(Mixer::load_with(&source, &load)?),
            CLIP => {
                let clip = Clip::load_with(&source, &load)?;
                let prompts = clip.prompts(&expected(name)?.prompts)?;
                Self::Clip(clip, prompts)
            }
            _ => Self::Vit(Vit::load_with(&source, &load)?),
        })
    }

    fn logits_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        match self {
            Self::Vit(vit) => vit.logits_hooked(x, hook),
            Self::Mixer(mixer) => mixer.logits_hooked(x, hook),
            Self::Clip(clip, prompts) => clip.logits_hooked(prompts, x, hook),
        }
    }

    fn attention(&self, picture: &Image) -> Result<Vec<Tensor>> {
        match self {
            Self::Vit(vit) => vit.attention(picture),
            Self::Mixer(_) => Ok(vec![]),
            Self::Clip(clip, _) => clip.attention(picture),
        }
    }
}

fn doubles(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The largest difference, relative to the largest number expected.
fn distance(got: &Tensor, expected: &[f64]) -> Result<f64> {
    let got = doubles(got)?;
    Ok(far(&got, expected) / largest(expected.iter().copied().map(f64::abs)))
}

fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    distance(a, &doubles(b)?)
}

/// Double and single precision, and how far numbers may be off in it.
const PRECISIONS: [(DType, f64); 2] = [(DType::F64, 1e-10), (DType::F32, 2e-5)];

#[test]
fn the_libraries_numbers_are_met() -> Result<()> {
    for name in all() {
        let theirs = expected(name)?;
        let picture = picture(theirs.size[0], theirs.size[1])?;
        let target = Target::Logit(theirs.target);
        for (dtype, tolerance) in PRECISIONS {
            let seer = Seer::load(name, dtype)?;
            let x = seer.vision().pixels(&picture)?.unsqueeze(0)?;
            let slope = grad_at(|x| target.of(&seer.logits(x)?), &x)?;
            let patterns = seer.attention(&picture)?;
            assert_eq!(patterns.len(), theirs.attention.len(), "{name}");
            for (field, ours, theirs) in
                [("logits", seer.logits(&x)?, &theirs.logits), ("gradient", slope, &theirs.gradient)]
            {
                let off = distance(&ours, theirs)?;
                assert!(off < tolerance, "{name}, {dtype:?}, {field}: off by {off:e}");
            }
            for (layer, (ours, theirs)) in patterns.iter().zip(&theirs.attention).enumerate() {
                // transformers has its softmax in single precision
                let off = distance(ours, theirs)?;
                assert!(off < tolerance.max(1e-6), "{name}, {dtype:?}, pattern {layer}: off by {off:e}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_words_of_a_prompt_meet_open_clips_numbers() -> Result<()> {
    let theirs = expected(CLIP)?;
    for (dtype, tolerance) in PRECISIONS {
        let clip = Clip::load_with(&folder(CLIP).to_string_lossy(), &Load { dtype, ..Load::default() })?;
        let text = clip.read_text(&theirs.prompts[theirs.target])?;
        let picture = picture(theirs.size[0], theirs.size[1])?;
        let f = |x: &Tensor| Target::Logit(0).of(&clip.logits_of_text(&picture, &text, x)?);
        let x = clip.embed(&text)?.unsqueeze(0)?;
        assert!(distance(&f(&x)?, &theirs.logits[theirs.target..][..1])? < tolerance);
        assert!(distance(&grad_at(f, &x)?, &theirs.text_gradient)? < tolerance);
        let patterns = clip.text_attention(&text)?;
        assert_eq!(patterns.len(), theirs.text_attention.len());
        for (ours, theirs) in patterns.iter().zip(&theirs.text_attention) {
            assert!(distance(ours, theirs)? < tolerance);
        }
    }
    Ok(())
}

/// A model in `f64`, and its picture's pixels `(3,h,w)`.
fn double(name: &str) -> Result<(Seer, Tensor)> {
    let (seer, [height, width]) = (Seer::load(name, DType::F64)?, expected(name)?.size);
    let x = seer.vision().pixels(&picture(height, width)?)?;
    Ok((seer, x))
}

#[test]
fn whole_models_pass_finite_differences() -> Result<()> {
    for name in all() {
        let (seer, x) = double(name)?;
        for class in 0..3 {
            let deviation = grad_check(|x| Target::Logit(class).of(&seer.logits(x)?), &x)?;
            assert!(deviation < 1e-7, "{name}, class {class}: {deviation:e}");
        }
    }
    Ok(())
}

#[test]
fn prompts_pass_finite_differences() -> Result<()> {
    let theirs = expected(CLIP)?;
    let clip = Clip::load_with(&folder(CLIP).to_string_lossy(), &Load::f64())?;
    let picture = picture(theirs.size[0], theirs.size[1])?;
    for prompt in &theirs.prompts {
        let text = clip.read_text(prompt)?;
        let f = |x: &Tensor| Target::Logit(0).of(&clip.logits_of_text(&picture, &text, x)?);
        let deviation = grad_check(f, &clip.embed(&text)?)?;
        assert!(deviation < 1e-7, "«{prompt}»: {deviation:e}");
    }
    Ok(())
}

/// Every place of two layers that a model has.
fn everywhere(seer: &Seer) -> Vec<Site> {
    use Site::{AttnOut, Embed, MlpOut, Pattern, Qkv, ResidMid, ResidPost, ResidPre, Z};
    let common: [fn(usize) -> Site; 5] = [ResidPre, AttnOut, ResidMid, MlpOut, ResidPost];
    let of_attention: &[fn(usize) -> Site] = if matches!(seer, Seer::Mixer(_)) { &[] } else { &[Qkv, Pattern, Z] };
    let kinds = common.iter().chain(of_attention);
    [Embed].into_iter().chain(kinds.flat_map(|kind| (0..2).map(kind))).collect()
}

#[test]
fn short_watched_and_whole_roads_meet() -> Result<()> {
    for name in all() {
        let (seer, x) = double(name)?;
        let x = x.unsqueeze(0)?;
        type Road = fn(&Seer, &Tensor) -> Result<Tensor>;
        let roads: [Road; 3] = [
            |seer, x| seer.logits(x),
            |seer, x| seer.logits_hooked(x, &mut Clear),
            |seer, x| seer.logits_hooked(x, &mut Record::new(&everywhere(seer))),
        ];
        let values = roads.map(|road| road(&seer, &x));
        let slopes = roads.map(|road| grad_at(|x| Target::Logit(2).of(&road(&seer, x)?), &x));
        for [short, whole, watched] in [values, slopes] {
            let short = short?;
            assert!(difference(&short, &whole?)? < 1e-12, "{name}: all tokens to the end differ");
            assert!(difference(&short, &watched?)? < 1e-12, "{name}: watched, they differ");
        }
    }
    Ok(())
}

/// In half precision there are no kernels: the whole network is composed of candle's operations.
#[test]
fn the_composed_road_meets_the_kernels_as_far_as_half_precision_reaches() -> Result<()> {
    for name in all() {
        let (seer, x) = double(name)?;
        let composed = Seer::load(name, DType::F16)?.logits(&x.to_dtype(DType::F16)?.unsqueeze(0)?)?;
        let off = difference(&composed, &seer.logits(&x.unsqueeze(0)?)?)?;
        assert!(off < 2e-2, "{name}: {off:e}");
    }
    Ok(())
}

#[test]
fn pictures_of_a_batch_do_not_see_each_other() -> Result<()> {
    for name in all() {
        let (seer, x) = double(name)?;
        let batch = Tensor::stack(&[&x, &(1.0 - &x)?, &(&x * 0.3)?], 0)?;
        let together = seer.logits(&batch)?;
        for place in 0..3 {
            let alone = seer.logits(&batch.narrow(0, place, 1)?)?;
            assert!(difference(&together.narrow(0, place, 1)?, &alone)? < 1e-12, "{name}, picture {place}");
        }
        assert!(difference(&together.narrow(0, 0, 1)?, &together.narrow(0, 1, 1)?)? > 1e-2, "{name} sees nothing");
    }
    Ok(())
}

/// A name of Hugging Face's, in timm's words.
fn as_in_timm(name: &str) -> String {
    const WORDS: [(&str, &str); 11] = [
        ("vit.", ""),
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("encoder.layer.", "blocks."),
        ("attention.output.dense", "attn.proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("layernorm", "norm"),
    ];
    WORDS.iter().fold(name.replace("classifier", "head"), |name, (theirs, timms)| name.replace(theirs, timms))
}

#[test]
fn the_same_weights_in_timms_words_are_the_same_model() -> Result<()> {
    let folder = copy("vit_oblong")?;
    let mut weights = load(folder.path().join("model.safetensors"), &Device::Cpu)?;
    for (layer, part) in [(0, "weight"), (0, "bias"), (1, "weight"), (1, "bias")] {
        let stem = format!("vit.encoder.layer.{layer}.attention.attention");
        let three = ["query", "key", "value"].map(|which| weights.remove(&format!("{stem}.{which}.{part}")));
        let three: Vec<Tensor> = three.into_iter().flatten().collect();
        weights.insert(format!("blocks.{layer}.attn.qkv.{part}"), Tensor::cat(&three, 0)?);
    }
    let weights: HashMap<_, _> = weights.into_iter().map(|(name, x)| (as_in_timm(&name), x)).collect();
    save(&weights, folder.path().join("model.safetensors"))?;
    fs::write(
        folder.path().join("config.json"),
        r#"{"architecture": "vit_tiny_patch16_224", "num_features": 12, "global_pool": "token",
            "model_args": {"num_heads": 2, "img_size": [8, 16]},
            "pretrained_cfg": {"input_size": [3, 8, 16], "crop_mode": "squash", "crop_pct": 1.0,
                               "mean": [0.3, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}}"#,
    )?;
    let (theirs, x) = double("vit_oblong")?;
    let renamed = Seer::open("timm", folder.path(), DType::F64)?;
    assert!(difference(&renamed.logits(&x.unsqueeze(0)?)?, &theirs.logits(&x.unsqueeze(0)?)?)? < 1e-12);
    Ok(())
}

/// The model with its weights rounded to half precision, and stored as `dtype`.
fn halved(name: &str, dtype: DType) -> Result<Seer> {
    let folder = copy(name)?;
    let file = if name == CLIP { "open_clip_model.safetensors" } else { "model.safetensors" };
    let weights = load(folder.path().join(file), &Device::Cpu)?;
    let weights = weights.into_iter().map(|(name, x)| Ok((name, x.to_dtype(DType::F16)?.to_dtype(dtype)?)));
    save(&weights.collect::<Result<HashMap<_, _>>>()?, folder.path().join(file))?;
    Seer::open(name, folder.path(), DType::F64)
}

#[test]
fn half_precision_files_are_read_as_what_they_hold() -> Result<()> {
    for name in all() {
        let (exact, x) = double(name)?;
        let x = x.unsqueeze(0)?;
        let (half, single) = (halved(name, DType::F16)?.logits(&x)?, halved(name, DType::F32)?.logits(&x)?);
        assert_eq!(doubles(&half)?, doubles(&single)?, "{name}");
        let off = difference(&half, &exact.logits(&x)?)?;
        assert!(0.0 < off && off < 1e-2, "{name}: {off:e}");
    }
    Ok(())
}

#[test]
fn patterns_and_readouts_are_distributions() -> Result<()> {
    for name in all() {
        let (seer, [height, width]) = (Seer::load(name, DType::F64)?, expected(name)?.size);
        for pattern in seer.attention(&picture(height, width)?)? {
            let sums = doubles(&pattern.sum(3)?)?;
            assert!(sums.into_iter().all(|sum| (sum - 1.0).abs() < 1e-12), "{name}");
        }
        if let Seer::Vit(vit) = seer {
            let (readout, tokens) = (vit.readout()?, vit.patches().ahead() + vit.patches().count());
            assert_eq!(readout.dims(), [tokens]);
            assert!((doubles(&readout)?.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{name}");
        }
    }
    Ok(())
}

/// The gradient at a token of the last layer is not zero exactly where the readout is not.
#[test]
fn what_the_readout_names_is_what_the_classifier_reads() -> Result<()> {
    for name in VITS {
        let (seer, x) = double(name)?;
        let Seer::Vit(vit) = seer else { panic!("{name} is a ViT") };
        let site = Site::ResidPost(vit.layers() - 1);
        let mut tap = Tap::new(&[site]);
        let logits = vit.logits_hooked(&x.unsqueeze(0)?, &mut tap)?;
        let slope = tap.grad(&logits.i((0, 1))?.backward()?, site)?;
        let strength = doubles(&slope.abs()?.sum(2)?)?;
        for (token, (strength, weight)) in strength.into_iter().zip(doubles(&vit.readout()?)?).enumerate() {
            assert_eq!(strength > 0.0, weight > 0.0, "{name}, token {token}");
        }
    }
    Ok(())
}

#[test]
fn what_a_mixer_mixes_over_tokens_can_be_seen_and_changed() -> Result<()> {
    let (seer, x) = double(MIXER)?;
    let (x, out) = (x.unsqueeze(0)?, "blocks.0.attn.out".parse::<Site>()?);
    let mut record = Record::new(&[Site::ResidPre(0), out, Site::ResidMid(0)]);
    let logits = seer.logits_hooked(&x, &mut record)?;
    let added = (record.get(Site::ResidMid(0))? - record.get(Site::ResidPre(0))?)?;
    assert_eq!(added.dims(), [1, 9, 12]);
    assert!(difference(record.get(out)?, &added)? < 1e-12);
    let patched = seer.logits_hooked(&x, &mut Edit::patch(out, record.get(out)?.clone()))?;
    assert!(difference(&patched, &logits)? < 1e-12);
    let silenced = seer.logits_hooked(&x, &mut Edit::ablate(out))?;
    assert!(difference(&silenced, &logits)? > 1e-3);

    let nowhere = seer.logits_hooked(&x, &mut Edit::ablate(Site::Z(0)));
    assert!(
        nowhere.is_err_and(|error| error.to_string().contains("no `blocks.0.attn.z`; there is `blocks.0.resid_pre`"))
    );

    let mut tap = Tap::new(&[out]);
    let grads = seer.logits_hooked(&x, &mut tap)?.i((0, 1))?.backward()?;
    let slope = tap.grad(&grads, out)?.i((0, 4, 7))?.to_scalar::<f64>()?;
    let moved = |by: f64| -> Result<f64> {
        let mut edit = Edit::new(out, move |a| {
            let entry = (a.i((0..1, 4..5, 7..8))? + by)?;
            Ok(a.slice_assign(&[0..1, 4..5, 7..8], &entry)?)
        });
        Ok(seer.logits_hooked(&x, &mut edit)?.i((0, 1))?.to_scalar::<f64>()?)
    };
    let quotient = (moved(1e-5)? - moved(-1e-5)?) / 2e-5;
    assert!((slope - quotient).abs() < 1e-8 * (1.0 + quotient.abs()), "{slope} is not {quotient}");
    Ok(())
}

/// Where attention itself depends on places, the patches that are left keep theirs, and nothing attends to the others: as if
/// attention's columns were hidden.
#[test]
fn what_is_dropped_leaves_the_others_in_their_places() -> Result<()> {
    for name in ["timm_beit", "timm_eva", "timm_eva_apart"] {
        let vit = Vit::load_with(&folder(name).to_string_lossy(), &Load { dtype: DType::F64, ..Load::default() })?;
        let ([height, width], (ahead, count)) = (vit.patches().size(), (vit.patches().ahead(), vit.patches().count()));
        let x = pellucid::baseline::noise(&Tensor::zeros((3, height, width), DType::F64, &Device::Cpu)?, 0.5, 0.2, 3)?;
        let row: Vec<f64> = (0..count).map(|patch| f64::from(u8::from(patch != 2 && patch != 5))).collect();
        let present = Tensor::new(vec![vec![1.0; count], row.clone()], &Device::Cpu)?;
        let seen = Tensor::new([vec![1.0; ahead], row.clone()].concat(), &Device::Cpu)?;
        let mut hide = Hide { layers: vit.layers(), seen };
        let hidden = vit.hidden_hooked(&x.unsqueeze(0)?, &mut hide)?.squeeze(0)?;
        let mean =
            hidden.narrow(0, ahead, count)?.broadcast_mul(&Tensor::new(row.clone(), &Device::Cpu)?.unsqueeze(1)?)?;
        let mean = (mean.sum(0)? / row.iter().sum::<f64>())?;
        // The head reads the mean alone: in place of every token it says the same of it.
        let mut only =
            Edit::new(Site::ResidPost(vit.layers() - 1), move |x| Ok(mean.broadcast_as(x.dims())?.contiguous()?));
        let x1 = x.unsqueeze(0)?;
        let wanted = Tensor::cat(&[vit.logits(&x1)?, vit.logits_hooked(&x1, &mut only)?], 0)?;
        let gap = largest_difference(&vit.logits_with(&x, &present)?, &wanted)?;
        assert!(gap < 1e-11, "{name}: {gap:e}");
    }
    Ok(())
}

/// Hides tokens from every layer's attention.
struct Hide {
    layers: usize,
    /// `(t,)`: one for tokens that are seen.
    seen: Tensor,
}

impl Hook for Hide {
    fn sites(&self) -> Vec<Site> {
        (0..self.layers).map(Site::Pattern).collect()
    }

    fn at(&mut self, _: Site, pattern: Tensor) -> Result<Tensor> {
        let seen = pattern.broadcast_mul(&self.seen)?;
        Ok(seen.broadcast_div(&seen.sum_keepdim(D::Minus1)?)?)
    }
}

/// What an EVA-02 or a BEiT must have, and what it then is without.
#[test]
fn parts_that_are_missing_are_named() -> Result<()> {
    for (name, tensor) in [
        ("timm_eva_apart", "blocks.1.mlp.fc1_g.weight"),
        ("timm_eva", "blocks.0.mlp.fc1.weight"),
        ("timm_beit", "blocks.1.attn.relative_position_bias_table"),
        ("timm_deit3", "blocks.0.mlp.fc1.weight"),
    ] {
        let copied = copy(name)?;
        let file = copied.path().join("model.safetensors");
        let mut weights = load(&file, &Device::Cpu)?;
        weights.remove(tensor).expect("it is there");
        save(&weights, &file)?;
        let said =
            Vit::load(&copied.path().to_string_lossy()).map_or_else(|error| error.to_string(), |_| "no error".into());
        assert!(said.contains(tensor), "{name} without {tensor}: {said}");
    }
    Ok(())
}
