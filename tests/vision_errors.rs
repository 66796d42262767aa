//! What is said of checkpoints and pictures that cannot be used.

#[path = "common/seen.rs"]
mod seen;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use pellucid::candle_core::safetensors::{load, save};
use pellucid::prelude::*;
use seen::{copy, folder, picture};
use serde_json::{Value, json};

fn said<T>(result: Result<T>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "no error".into())
}

#[track_caller]
fn says<T>(result: Result<T>, parts: &[&str]) {
    let message = said(result);
    for part in parts {
        assert!(message.contains(part), "«{message}» should say «{part}»");
    }
}

fn name(folder: &Path) -> String {
    folder.to_string_lossy().into_owned()
}

fn vit(name: &str) -> Result<Vit> {
    Vit::load(&folder(name).to_string_lossy())
}

fn clip() -> Result<Clip> {
    Clip::load(&folder("open_clip").to_string_lossy())
}

/// A copy of a model whose config.json is changed.
fn configured(model: &str, change: impl Fn(&mut Value)) -> Result<tempfile::TempDir> {
    let copy = copy(model)?;
    let path = copy.path().join("config.json");
    let mut json = serde_json::from_slice(&fs::read(&path)?)?;
    change(&mut json);
    fs::write(path, json.to_string())?;
    Ok(copy)
}

/// A copy of a model whose weights are changed.
fn weighed(model: &str, change: impl Fn(&mut HashMap<String, Tensor>) -> Result<()>) -> Result<tempfile::TempDir> {
    let copy = copy(model)?;
    let path: PathBuf = copy.path().join("model.safetensors");
    let mut weights = load(&path, &Device::Cpu)?;
    change(&mut weights)?;
    save(&weights, path)?;
    Ok(copy)
}

#[test]
fn without_a_processor_file_nobody_knows_the_colours() -> Result<()> {
    let folder = copy("deit")?;
    fs::remove_file(folder.path().join("preprocessor_config.json"))?;
    says(
        Vit::load(&name(folder.path())),
        &["preprocessor_config.json", "there is no such file", "size, cut and colours"],
    );
    Ok(())
}

#[test]
fn a_processor_file_that_says_nonsense_is_refused() -> Result<()> {
    let folder = copy("deit")?;
    let file = folder.path().join("preprocessor_config.json");
    fs::write(&file, r#"{"resample": 9}"#)?;
    says(Vit::load(&name(folder.path())), &["preprocessor_config.json", "`resample` is 9", "0 to 5"]);
    fs::write(&file, r#"{"do_center_crop": true}"#)?;
    says(Vit::load(&name(folder.path())), &["`do_center_crop` is true, but no `crop_size`"]);
    fs::write(&file, "{")?;
    says(Vit::load(&name(folder.path())), &["preprocessor_config.json", "EOF"]);
    for (key, value, complaint) in [
        ("interpolation", "nearest-exact", "the interpolation `nearest-exact` is not known"),
        ("crop_mode", "border", "the crop mode `border` is not known for this size"),
    ] {
        let folder = configured("timm_deit3", |json| json["pretrained_cfg"][key] = value.into())?;
        says(Vit::load(&name(folder.path())), &["config.json", complaint]);
    }
    Ok(())
}

/// timm has many networks whose weights have the names of a plain vision transformer's.
#[test]
fn another_architecture_is_called_by_its_name() -> Result<()> {
    let strange = [
        "swin_tiny_patch4_window7_224",
        "resnet50",
        "vit_base_patch16_rpn_224",
        "vit_small_patch16_36x1_224",
        "vit_huge_patch16_radio_v3",
        "vit_pe_spatial_base_patch16_512",
        "vit_small_patch16_rope_224",
        "vit_",
        "",
    ];
    for strange in strange {
        let folder = configured("timm_deit3", |json| json["architecture"] = strange.into())?;
        says(Vit::load(&name(folder.path())), &[&format!("holds a `{strange}` model"), "timm's `vit_…`, `flexivit_…`"]);
    }
    let folder = configured("deit", |json| json["model_type"] = "swin".into())?;
    says(Vit::load(&name(folder.path())), &["holds a `swin` model", "`vit` and `deit`"]);
    says(Mixer::load(&name(folder.path())), &["model without an `architecture`", "`mixer_…` and `gmixer_…`"]);
    says(Clip::load(&name(folder.path())), &["holds a `swin` model", "CLIP, as Hugging Face's `clip`"]);
    let folder = configured("timm_gmixer", |json| json["architecture"] = "resmlp_12_224".into())?;
    says(Mixer::load(&name(folder.path())), &["holds a `resmlp_12_224` model"]);
    Ok(())
}

#[test]
fn a_tensor_that_no_part_knows_makes_another_network() -> Result<()> {
    let unknown = "belongs to no part that this reader knows, so this is another architecture";
    for (model, tensor) in [
        ("timm_deit3", "blocks.1.attn.q_norm.weight"),
        ("timm_deit3", "attn_pool.latent"),
        ("deit", "deit.encoder.layer.0.attention.attention.query_norm.weight"),
    ] {
        let folder = weighed(model, |weights| {
            weights.insert(tensor.into(), Tensor::ones(6, DType::F32, &Device::Cpu)?);
            Ok(())
        })?;
        let rest = tensor.trim_start_matches("deit.");
        says(Vit::load(&name(folder.path())), &["model.safetensors", &format!("`{rest}`"), unknown]);
    }
    let folder = weighed("timm_gmixer", |weights| {
        weights.insert("blocks.0.ls1.gamma".into(), Tensor::ones(12, DType::F32, &Device::Cpu)?);
        Ok(())
    })?;
    says(Mixer::load(&name(folder.path())), &["`blocks.0.ls1.gamma`", unknown]);
    Ok(())
}

#[test]
fn blocks_are_as_many_as_promised_and_none_is_missing() -> Result<()> {
    let promised = "config.json promises 3 blocks, and the weights have 2. Do they belong together?";
    let folder = configured("deit", |json| json["num_hidden_layers"] = 3.into())?;
    says(Vit::load(&name(folder.path())), &["config.json", promised]);
    let folder = configured("timm_deit3", |json| json["model_args"]["depth"] = 3.into())?;
    says(Vit::load(&name(folder.path())), &[promised]);
    let folder = configured("timm_gmixer", |json| json["model_args"]["num_blocks"] = 3.into())?;
    says(Mixer::load(&name(folder.path())), &[promised]);

    let without_first = |weights: &mut HashMap<String, Tensor>| {
        weights.retain(|name, _| !name.starts_with("blocks.0."));
        Ok(())
    };
    let nothing = "there are no weights whose names begin with `blocks.0.`";
    says(Vit::load(&name(weighed("timm_deit3", without_first)?.path())), &[nothing]);
    says(Mixer::load(&name(weighed("timm_gmixer", without_first)?.path())), &[nothing]);
    let folder = weighed("timm_gmixer", |weights| {
        let moved =
            weights.iter().filter_map(|(name, x)| Some((name.strip_prefix("blocks.1.")?.to_string(), x.clone())));
        let moved: Vec<_> = moved.collect();
        weights.retain(|name, _| !name.starts_with("blocks.1."));
        weights.extend(moved.into_iter().map(|(name, x)| (format!("blocks.2.{name}"), x)));
        Ok(())
    })?;
    says(Mixer::load(&name(folder.path())), &["there is `blocks.2.", "nothing begins with `blocks.1.`"]);
    Ok(())
}

#[test]
fn positions_fit_the_patches() -> Result<()> {
    let folder = weighed("deit", |weights| {
        let positions = weights["deit.embeddings.position_embeddings"].narrow(1, 0, 10)?;
        weights.insert("deit.embeddings.position_embeddings".into(), positions.contiguous()?);
        Ok(())
    })?;
    let wanted = ["the position embeddings", "[10, 12]", "(9, c) for patches, or (11, c) for all tokens"];
    says(Vit::load(&name(folder.path())), &wanted);
    let folder = configured("deit", |json| json["image_size"] = 16.into())?;
    says(Vit::load(&name(folder.path())), &["the position embeddings", "(16, c) for patches"]);
    let folder = configured("deit", |json| json["image_size"] = 3.into())?;
    says(Vit::load(&name(folder.path())), &["patches of 4 × 4 pixels do not cut [3, 3] pixels"]);
    Ok(())
}

#[test]
fn heads_share_the_channels_evenly() -> Result<()> {
    for heads in [5, 0] {
        let folder = configured("deit", |json| json["num_attention_heads"] = heads.into())?;
        let uneven = format!("12 channels cannot be shared out evenly over {heads} attention heads");
        says(Vit::load(&name(folder.path())), &["config.json", &uneven]);
    }
    Ok(())
}

#[test]
fn an_argument_that_is_not_known_could_change_the_forward() -> Result<()> {
    let folder = configured("timm_deit3", |json| json["model_args"]["qk_norm"] = true.into())?;
    says(Vit::load(&name(folder.path())), &["config.json", "the model argument `qk_norm` is not known"]);
    let folder = configured("timm_gmixer", |json| json["model_args"]["act_layer"] = "relu".into())?;
    says(Mixer::load(&name(folder.path())), &["config.json", "the model argument `act_layer` is not known"]);
    let folder = configured("timm_deit3", |json| json["global_pool"] = "map".into())?;
    says(Vit::load(&name(folder.path())), &["config.json", "the pooling `map` is not known"]);
    let folder = copy("open_clip")?;
    let path = folder.path().join("open_clip_config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path)?)?;
    json["model_cfg"]["vision_cfg"]["no_ln_pre"] = json!(true);
    fs::write(path, json.to_string())?;
    says(Clip::load(&name(folder.path())), &["open_clip_config.json", "unknown field `no_ln_pre`"]);
    Ok(())
}

#[test]
fn pictures_and_pixels_have_the_models_size() -> Result<()> {
    let vit = vit("vit_oblong")?;
    let wrong = ["the picture is 8 × 16 pixels and the model reads 16 × 8", "with `fit`", "with `read`"];
    says(vit.predict(&picture(16, 8)?), &wrong);
    says(vit.attention(&picture(16, 8)?), &wrong);
    says(clip()?.pixels(&picture(16, 8)?), &["the model reads 12 × 12"]);
    for shape in [&[1, 3, 16, 8][..], &[3, 8, 16], &[1, 1, 8, 16], &[1, 3, 8, 16, 1]] {
        let x = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
        says(vit.logits(&x), &["the pixels", &format!("{shape:?}"), "(n, 3, 8, 16)"]);
    }
    says(vit.logits(&Tensor::zeros((0, 3, 8, 16), DType::F32, &Device::Cpu)?), &["none of them 0"]);
    says(vit.on_grid(&Tensor::zeros(8, DType::F32, &Device::Cpu)?), &["the tokens' numbers", "(9,)"]);
    let nowhere = vit.logits_hooked(&vit.pixels(&picture(8, 16)?)?.unsqueeze(0)?, &mut Edit::ablate(Site::Pattern(2)));
    says(nowhere, &["layer 2 is out of range: there are 2"]);
    Ok(())
}

#[test]
fn classes_have_names_and_headless_models_none() -> Result<()> {
    says(vit("deit")?.label("cat"), &["there is no class `cat`; the classes are LABEL_0, LABEL_1, LABEL_2"]);
    let headless = |weights: &mut HashMap<String, Tensor>| {
        weights.retain(|name, _| !name.contains("head") && !name.contains("classifier"));
        Ok(())
    };
    for model in ["deit_with_teacher", "timm_distilled", "timm_siglip"] {
        let folder = weighed(model, headless)?;
        let vit = Vit::load(&name(folder.path()))?;
        says(vit.predict(&picture(12, 12)?), &["no weights for a classifier", "does not make them up at random"]);
        assert!(vit.labels().is_empty() && vit.attention(&picture(12, 12)?)?.len() == 2);
        let read = if model == "timm_siglip" { 1.0 / vit.patches().count() as f64 } else { 1.0 };
        assert_eq!(vit.readout()?.i(0)?.to_scalar::<f64>()?, read, "{model}: what a head would read");
    }
    let mixer = Mixer::load(&name(weighed("timm_gmixer", headless)?.path()))?;
    says(mixer.predict(&picture(12, 12)?), &["has no weights for a classifier"]);
    Ok(())
}

#[test]
fn prompts_are_texts_that_fit() -> Result<()> {
    let clip = clip()?;
    says(clip.prompts(&[""; 0]), &["there are no prompts to hold against a picture"]);
    says(clip.prompts(&["a red star", ""]), &["the text is empty"]);
    says(clip.prompts(&["red ".repeat(11)]), &["the text has 13 tokens, but the model has 12 positions"]);
    says(clip.prompts(&[[0x72, 0xff]]), &["not valid UTF-8: byte 1 is 0xff"]);
    let text = clip.read_text("a red star")?;
    says(clip.pad_text(text.clone(), 13), &["13 tokens", "12 positions"]);
    let x = clip.embed(&text)?;
    says(clip.text_features(&text, &x), &["the embeddings", "(n, 5, 9)"]);
    says(clip.logits_of_text(&picture(9, 9)?, &text, &x.unsqueeze(0)?), &["9 × 9 pixels"]);
    says(clip.baseline(&text, &Baseline::token("purple")), &["purple"]);
    Ok(())
}

/// One pixel, and slivers both ways, by every way to cut: a picture of the right size, or an error that says why not.
#[test]
fn extreme_pictures_are_fitted_or_refused_in_words() -> Result<()> {
    for [height, width] in [[1, 1], [2, 3000], [3000, 2]] {
        let extreme = picture(height, width)?;
        let squeezed = vit("vit_oblong")?.fit(&extreme)?;
        assert_eq!([squeezed.height(), squeezed.width()], [8, 16]);
        let cut = clip()?.fit(&extreme)?;
        assert_eq!([cut.height(), cut.width()], [12, 12]);
    }
    let folder = copy("deit")?;
    let config = |size: usize| json!({"image_processor_type": "CLIPImageProcessor", "size": size, "crop_size": size});
    fs::write(folder.path().join("preprocessor_config.json"), config(224).to_string())?;
    let large = Vit::load(&name(folder.path()))?;
    says(large.fit(&picture(2, 3000)?), &["3000 × 2 pixels", "336000 × 224", "less long and thin"]);
    says(large.fit(&picture(3000, 2)?), &["2 × 3000 pixels", "224 × 336000", "less long and thin"]);
    let one = large.fit(&picture(1, 1)?)?;
    assert_eq!([one.height(), one.width()], [224, 224]);
    fs::write(
        folder.path().join("preprocessor_config.json"),
        r#"{"do_resize": false, "do_center_crop": true, "crop_size": 12}"#,
    )?;
    let uncut = Vit::load(&name(folder.path()))?;
    says(uncut.fit(&picture(1, 1)?), &["12 × 12 pixels cannot be cut from 1 × 1"]);
    assert_eq!(uncut.fit(&picture(30, 30)?)?.height(), 12);
    Ok(())
}

#[test]
fn a_whole_name_comes_before_one_of_several() -> Result<()> {
    let labels = json!({"0": "Cardigan, Cardigan Welsh corgi", "1": "cardigan", "2": "crane, bird"});
    let copy = configured("deit", |json| json["id2label"] = labels.clone())?;
    let vit = Vit::load(&name(copy.path()))?;
    assert_eq!((vit.label("cardigan")?, vit.label("Cardigan Welsh Corgi")?, vit.label("bird")?), (1, 0, 2));
    let twice = json!({"0": "crane, bird", "1": "crane, machine", "2": "other"});
    let copy = configured("deit", |json| json["id2label"] = twice.clone())?;
    says(Vit::load(&name(copy.path()))?.label("crane"), &["several classes, [0, 1]"]);
    Ok(())
}

#[test]
fn patches_need_places() -> Result<()> {
    let positions = |weights: &HashMap<String, Tensor>| {
        weights.keys().filter(|name| name.contains("position_embeddings")).cloned().collect::<Vec<_>>()
    };
    let copy = weighed("deit", |weights| {
        positions(weights).iter().for_each(|name| drop(weights.remove(name)));
        Ok(())
    })?;
    says(Vit::load(&name(copy.path())), &["position_embeddings", "patches need places"]);
    Ok(())
}
