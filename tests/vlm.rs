//! Vision-language models: pixels in, the logit of an answer's token out.

#[path = "common/apart.rs"]
mod apart;

use apart::largest_difference;
use pellucid::prelude::*;

const FOLDERS: [&str; 3] = ["models/qwen2_vl", "models/qwen2_5_vl", "qwen_vl/public"];

fn reference(model: &str) -> Result<Vlm> {
    Vlm::load_with(&format!("{}/tests/reference/{model}", env!("CARGO_MANIFEST_DIR")), &Load::f64())
}

/// Waves, `height` by `width` pixels.
fn waves(height: usize, width: usize) -> Result<Image> {
    let wave = |i: usize| 0.5 + 0.4 * (0.7 * (i % width) as f64 + 0.3 * (i / width) as f64).sin();
    Image::from_pixels(
        &Tensor::from_iter((0..3 * height * width).map(wave), &Device::Cpu)?.reshape((3, height, width))?,
    )
}

#[test]
fn pixels_reach_the_logit_and_their_gradients_are_right() -> Result<()> {
    for model in FOLDERS {
        let vlm = reference(model)?;
        let prompt = vlm.ask("What is in the image?", &waves(32, 48)?)?;
        let x = prompt.pixels()?;
        let f = |x: &Tensor| Target::Logit(7).of(&vlm.logits(&prompt, x)?);
        let gradient = grad_at(f, &x.unsqueeze(0)?)?.squeeze(0)?;
        let step = 2e-6;
        for seed in 1..4 {
            let way = pellucid::baseline::noise(&x, 0.0, 1.0, seed)?;
            let at = |by: f64| -> Result<f64> { Ok(f(&(&x + (&way * by)?)?.unsqueeze(0)?)?.get(0)?.to_scalar()?) };
            let difference = (at(step)? - at(-step)?) / (2.0 * step);
            let slope: f64 = (&gradient * &way)?.sum_all()?.to_scalar()?;
            assert!((slope - difference).abs() < 1e-6 * (1.0 + difference.abs()), "{model}: {slope} and {difference}");
        }
    }
    Ok(())
}

#[test]
fn patches_are_the_pixels_in_another_order() -> Result<()> {
    for model in FOLDERS {
        let vlm = reference(model)?;
        let prompt = vlm.ask("What?", &waves(64, 32)?)?;
        let x = prompt.pixels()?.unsqueeze(0)?;
        let patches = vlm.patches(&prompt, &x)?;
        // each of Qwen2's patches has both frames of a still picture
        let frames = patches.elem_count() / x.elem_count();
        assert_eq!(frames, if model == "qwen_vl/public" { 1 } else { 2 });
        assert_eq!(largest_difference(&vlm.put_together(&prompt, &patches)?, &(&x * frames as f64)?)?, 0.0);
        assert!(largest_difference(&vlm.see(&prompt, &x)?, &vlm.see_patches(&prompt, &patches)?)? == 0.0);
    }
    Ok(())
}

#[test]
fn all_roads_lead_to_the_same_logits() -> Result<()> {
    for model in FOLDERS {
        let vlm = reference(model)?;
        let prompt = vlm.ask("What is in the image?", &waves(48, 48)?)?;
        let said = vlm.continuation(&prompt, "A cat.")?;
        let x = prompt.pixels()?;
        let x = Tensor::stack(&[&x, &(&x * 0.5)?, &x.zeros_like()?], 0)?;
        let embeddings = vlm.embed(&prompt, &x)?;
        assert_eq!(embeddings.dim(1)?, prompt.text().len());
        let by_pixels = vlm.log_probs(&prompt, &said, &x)?;
        assert!(largest_difference(&by_pixels, &vlm.log_probs_from(&prompt, &said, &embeddings)?)? < 1e-9);
        assert!(largest_difference(&vlm.logits(&prompt, &x)?, &vlm.logits_from(&prompt, &embeddings)?)? < 1e-9);

        // one picture at a time, with a graph, from the beginning
        let one = Var::from_tensor(&x.narrow(0, 1, 1)?)?;
        let tracked = vlm.log_probs(&prompt, &said, one.as_tensor())?;
        assert!(largest_difference(&tracked, &by_pixels.narrow(0, 1, 1)?)? < 1e-9);

        let logits = vlm.continuation_logits(&prompt, &said, &x)?;
        assert!(largest_difference(&logits.narrow(1, 0, 1)?.squeeze(1)?, &vlm.logits(&prompt, &x)?)? < 1e-9);
    }
    Ok(())
}

#[test]
fn what_is_written_is_what_is_most_probable() -> Result<()> {
    for model in FOLDERS {
        let vlm = reference(model)?;
        let prompt = vlm.ask("Describe it.", &waves(48, 32)?)?;
        let said = vlm.generate(&prompt, &Sampling::greedy(5))?;
        let logits = vlm.continuation_logits(&prompt, &said, &prompt.pixels()?.unsqueeze(0)?)?;
        let best: Vec<u32> = logits.argmax(2)?.squeeze(0)?.to_vec1()?;
        assert_eq!(best, said.ids(), "{model}: cached writing and one forward differ");
    }
    Ok(())
}

#[test]
fn attention_to_the_picture_is_a_part_of_each_row() -> Result<()> {
    let vlm = reference("models/qwen2_vl")?;
    let prompt = vlm.ask("What is in the image?", &waves(32, 48)?)?;
    let said = vlm.continuation(&prompt, "A cat.")?;
    let patterns = vlm.attention(&prompt, &said)?;
    let t = prompt.text().len() + said.len() - 1;
    assert_eq!(patterns[0].dims(), [1, 4, t, t]);
    let row = patterns[1].mean(1)?.i((0, prompt.text().len() - 1))?;
    let map = prompt.on_grid(&row)?;
    assert_eq!(map.dims(), prompt.grid());
    let (all, seen): (f64, f64) = (row.sum_all()?.to_scalar()?, map.sum_all()?.to_scalar()?);
    assert!((all - 1.0).abs() < 1e-9 && seen > 0.0 && seen < 1.0, "{all} and {seen}");
    Ok(())
}

#[test]
fn text_and_picture_share_one_law() -> Result<()> {
    let vlm = reference("models/qwen2_vl")?;
    let prompt = vlm.ask("What is in the image?", &waves(32, 32)?)?;
    let pixels = prompt.pixels()?;
    let x = vlm.embed(&prompt, &pixels.unsqueeze(0)?)?.squeeze(0)?;
    let absent = vlm.baseline(&prompt, &Baseline::mean(), &pixels.zeros_like()?)?;
    let f = |x: &Tensor| Target::Logit(7).of(&vlm.logits_from(&prompt, x)?);
    let raw = integrated_gradients(f, &x, &absent, &Steps::gauss_legendre(64))?;
    let why = raw.clone().over_prompt(&prompt)?;
    assert!((why.sum() - raw.sum()).abs() < 1e-9 && why.completeness == raw.completeness);
    let picture = why.tokens().iter().position(|token| token.text == "⟨picture⟩").unwrap();
    let map = raw.within_picture(&prompt)?;
    assert_eq!(map.scores.len(), prompt.visual().len());
    assert!((map.sum() - why.scores[picture]).abs() < 1e-9 && map.completeness.is_none());
    let told = map.text();
    assert!(told.contains(", over the picture only: the rest is left out, and of a part no law speaks"), "{told}");
    assert!(!told.contains("promises no sum"), "integrated gradients promises one: {told}");
    Ok(())
}

#[test]
fn pictures_of_any_size_are_read_in_whole_cells() -> Result<()> {
    let vlm = reference("models/qwen2_vl")?;
    for (height, width) in [(1, 1), (17, 90), (100, 33), (16, 16)] {
        let prompt = vlm.ask("What?", &waves(height, width)?)?;
        let [rows, columns] = prompt.grid();
        assert_eq!([prompt.picture().height(), prompt.picture().width()], [16 * rows, 16 * columns]);
        assert_eq!(prompt.visual().len(), rows * columns);
    }
    let ribbon = vlm.ask("What?", &waves(1, 300)?).unwrap_err().to_string();
    assert!(ribbon.contains("300 × 1") && ribbon.contains("cut out a part"), "{ribbon}");
    Ok(())
}

#[test]
fn prompts_that_do_not_fit_are_explained() -> Result<()> {
    let vlm = reference("models/qwen2_vl")?;
    let picture = waves(32, 32)?;
    let one = std::slice::from_ref(&picture);
    let slot = "<|vision_start|><|image_pad|><|vision_end|>";
    let of = |text: &str, pictures: &[Image]| vlm.read(text, pictures).map(|_| ()).unwrap_err().to_string();
    assert!(of("What?", one).contains("0 places for pictures"));
    assert!(of(slot, &[]).contains("1 places for pictures"), "{}", of(slot, &[]));
    assert!(of("<|vision_start|>What?", one).contains("without its"));
    let by_hand = of(&format!("{slot}What? <|image_pad|>"), one);
    assert!(by_hand.contains("cannot be written by hand"), "{by_hand}");

    let prompt = vlm.ask("What?", &picture)?;
    let wrong = vlm.logits(&prompt, &Tensor::zeros((1, 3, 16, 16), DType::F64, &Device::Cpu)?).unwrap_err();
    assert!(wrong.to_string().contains("(n, 3, 32, 32)"), "{wrong}");
    let other = vlm.ask("Who?", &picture)?;
    let said = vlm.continuation(&other, "A cat.")?;
    let wrong = vlm.log_probs(&prompt, &said, &prompt.pixels()?.unsqueeze(0)?).unwrap_err();
    assert!(wrong.to_string().contains("another prompt"), "{wrong}");
    assert!(prompt.explaining(1).is_err());
    let film = of("<|vision_start|><|video_pad|><|vision_end|>What?", one);
    assert!(film.contains("«<|video_pad|>»"), "{film}");
    Ok(())
}

#[test]
fn a_prompt_is_for_the_model_that_read_it() -> Result<()> {
    let folder = format!("{}/tests/reference/models/qwen2_vl", env!("CARGO_MANIFEST_DIR"));
    let (vlm, shuffled) = (Vlm::load(&folder)?, Vlm::load_with(&folder, &Load::shuffled(1))?);
    let prompt = vlm.ask("What?", &waves(32, 32)?)?;
    let x = prompt.pixels()?.unsqueeze(0)?;
    let refused = shuffled.logits(&prompt, &x).unwrap_err().to_string();
    assert!(refused.contains("another model"), "{refused}");
    assert!(shuffled.logits_from(&prompt, &vlm.embed(&prompt, &x)?).is_err());
    let own = shuffled.ask("What?", &waves(32, 32)?)?;
    assert!(largest_difference(&vlm.logits(&prompt, &x)?, &shuffled.logits(&own, &x)?)? > 1e-3);
    Ok(())
}

/// A copy of a folder with one of its files changed.
fn changed(model: &str, file: &str, change: impl Fn(&mut serde_json::Value)) -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for entry in std::fs::read_dir(format!("{}/tests/reference/{model}", env!("CARGO_MANIFEST_DIR")))? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
    }
    let mut json = serde_json::from_slice(&std::fs::read(copy.path().join(file))?)?;
    change(&mut json);
    std::fs::write(copy.path().join(file), json.to_string())?;
    Ok(copy)
}

fn load(folder: &tempfile::TempDir) -> Result<Vlm> {
    Vlm::load_with(&folder.path().to_string_lossy(), &Load::f64())
}

fn refusal(folder: &tempfile::TempDir) -> String {
    load(folder).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn files_that_do_not_belong_together_are_refused() -> Result<()> {
    let other = changed("models/qwen2_vl", "preprocessor_config.json", |json| json["patch_size"] = 14.into())?;
    assert!(refusal(&other).contains("cells of 16 pixels"), "{}", refusal(&other));
    let none =
        changed("models/qwen2_vl", "config.json", |json| json["vision_config"]["spatial_merge_size"] = 0.into())?;
    assert!(refusal(&none).contains("belong together"), "{}", refusal(&none));
    let text = changed("qwen_vl/public", "config.json", |json| json["visual"] = serde_json::Value::Null)?;
    assert!(refusal(&text).contains("load it as `CausalLm`"), "{}", refusal(&text));
    let half = changed("qwen_vl/public", "config.json", |json| json["use_logn_attn"] = false.into())?;
    assert!(refusal(&half).contains("only together"), "{}", refusal(&half));
    Ok(())
}

/// What processors and configurations of other years leave out, or call otherwise.
#[test]
fn older_files_mean_the_same() -> Result<()> {
    let picture = waves(48, 48)?;
    let logits = |vlm: &Vlm| -> Result<Tensor> {
        let prompt = vlm.ask("What?", &picture)?;
        vlm.logits(&prompt, &prompt.pixels()?.unsqueeze(0)?)
    };
    let expected = logits(&reference("models/qwen2_5_vl")?)?;
    let named = changed("models/qwen2_5_vl", "preprocessor_config.json", |json| {
        json["image_processor_type"] = "Qwen2_5_VLImageProcessor".into();
    })?;
    assert_eq!(largest_difference(&logits(&load(&named)?)?, &expected)?, 0.0);
    let counted = changed("models/qwen2_5_vl", "config.json", |json| {
        json["vision_config"]["depth"] = serde_json::Value::Null;
        json["text_config"] = serde_json::json!({ "rope_scaling": null, "eos_token_id": null });
    })?;
    assert_eq!(largest_difference(&logits(&load(&counted)?)?, &expected)?, 0.0);
    Ok(())
}

/// A hook sees what goes in, as in every other model.
#[test]
fn embeddings_are_shown_to_a_hook() -> Result<()> {
    let vlm = reference("models/qwen2_vl")?;
    let prompt = vlm.ask("What?", &waves(32, 32)?)?;
    let x = vlm.embed(&prompt, &prompt.pixels()?.unsqueeze(0)?)?;
    let mut record = Record::new(&[Site::Embed]);
    vlm.logits_from_hooked(&prompt, &x, &mut record)?;
    assert_eq!(largest_difference(record.get(Site::Embed)?, &x)?, 0.0);
    Ok(())
}

/// Qwen-VL beyond its context: what stands before the picture cannot be read before the rest is known.
#[test]
fn a_long_text_is_read_as_one() -> Result<()> {
    let short = changed("qwen_vl/public", "config.json", |json| json["seq_length"] = 16.into())?;
    let vlm = load(&short)?;
    let prompt = vlm.read("A picture follows: <img></img>\nWhat is in the image? Answer:", &[waves(28, 28)?])?;
    let x = prompt.pixels()?.unsqueeze(0)?;
    let embeddings = vlm.embed(&prompt, &x)?;
    assert!(largest_difference(&vlm.logits(&prompt, &x)?, &vlm.logits_from(&prompt, &embeddings)?)? < 1e-9);
    Ok(())
}

/// The same without a picture: what is kept or shared of one text serves no other, whose beginning is read otherwise.
#[test]
fn beyond_the_trained_length_kept_and_whole_texts_agree() -> Result<()> {
    let short = changed("qwen_vl/public", "config.json", |json| json["seq_length"] = 16.into())?;
    let llm = load(&short)?.llm().clone();
    let prompt = llm.read("What is in the image?")?; // 14 tokens
    let said = llm.generate(&prompt, &Sampling::greedy(24))?;
    let mut ids = prompt.ids();
    for id in said.ids() {
        let logits = llm.logits(&llm.embed_ids(&ids)?.unsqueeze(0)?)?;
        assert_eq!(logits.argmax(1)?.to_vec1::<u32>()?, [id], "after {} tokens", ids.len());
        ids.push(id);
    }
    let prompts: Vec<Vec<u32>> =
        [40, 14, 22, 38, 60, 10].map(|count| ids.iter().cycle().take(count).copied().collect()).into();
    let together = llm.log_probs_after(&prompts, &said)?;
    for (row, prompt) in prompts.iter().enumerate() {
        let alone = llm.log_probs_after(std::slice::from_ref(prompt), &said)?.squeeze(0)?;
        assert!(largest_difference(&together.i(row)?, &alone)? < 1e-9, "after {} tokens", prompt.len());
    }
    let (sources, asked) =
        (Sources::sentences("A cat sat. A dog ran.")?, |context: &str| llm.read(format!("{context} Who?")));
    let (masks, said) = (draw_masks(2, 8, 0.5, 0)?, llm.continuation(&asked(sources.context())?, " cat")?);
    let fast = ContextCite::with_passes(&llm, &sources, &masks, &said, asked, &Passes::fast(0));
    assert!(fast.is_err_and(|error| error.to_string().contains("ask exactly")));
    Ok(())
}

#[test]
fn an_answer_ends_before_there_is_no_end_to_it() -> Result<()> {
    let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    let prompt = vlm.ask("What colour is the sky?", &Scene::empty(1).image()?)?;
    assert_eq!(vlm.generate(&prompt, &Sampling::greedy(usize::MAX))?.text(), "blue");
    Ok(())
}

#[test]
fn pictures_can_be_made_smaller_than_the_model_would_read_them() -> Result<()> {
    let folder = format!("{}/tests/reference/models/qwen2_vl", env!("CARGO_MANIFEST_DIR"));
    let small = Vlm::load_with(&folder, &Load { most_pixels: Some(1024), ..Load::default() })?;
    let prompt = small.ask("What?", &waves(200, 200)?)?;
    assert!(prompt.picture().height() * prompt.picture().width() <= 1024);
    Ok(())
}

#[test]
fn of_two_pictures_one_is_explained() -> Result<()> {
    let vlm = reference("models/qwen2_vl")?;
    let (slot, left, right) = ("<|vision_start|><|image_pad|><|vision_end|>", waves(32, 48)?, waves(48, 32)?);
    let both = vlm.read(format!("{slot} and {slot}: what?"), &[left, right])?;
    let second = both.explaining(1)?;
    assert_eq!([both.grid(), second.grid()], [[2, 3], [3, 2]]);
    let at = |prompt: &VisualPrompt| vlm.logits(prompt, &prompt.pixels()?.unsqueeze(0)?);
    assert!(largest_difference(&at(&both)?, &at(&second)?)? < 1e-9, "the same prompt, seen from either picture");
    let black = vlm.logits(&second, &second.pixels()?.zeros_like()?.unsqueeze(0)?)?;
    assert!(largest_difference(&at(&both)?, &black)? > 1e-6);
    Ok(())
}
