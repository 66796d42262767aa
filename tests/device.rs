//! The same numbers on every device, up to rounding: what models say and how methods explain it, on the CPU and on the device that
//! `PELLUCID_DEVICE` names.
//!
//! ```sh
//! PELLUCID_DEVICE=cuda:0 cargo test --features cuda --test device -- --nocapture
//! ```
//!
//! Without such a device, what remains is the road that it would take, through candle's own operations: `bf16` takes it on the CPU too.

#[path = "common/apart.rs"]
mod apart;

use std::path::Path;
use std::process::Command;

use apart::far;
use pellucid::prelude::*;

/// What a model says and how methods explain it, by name.
type Numbers = Vec<(&'static str, Vec<f64>)>;

/// The same of one model, loaded somehow.
type Model = fn(&Load) -> Result<Numbers>;

/// Every embedded model, and a Mixer, which none is.
const MODELS: [(&str, Model); 7] = [
    ("BERT", bert),
    ("Llama", |load| decoder("pellucid/tiny-llama-facts", load)),
    ("Qwen", |load| decoder("pellucid/tiny-qwen-facts", load)),
    ("ViT", vit),
    ("CLIP", clip),
    ("gMixer", mixer),
    ("VLM", vlm),
];

/// How far apart a device and the CPU may be in `f32`, as a share of the largest number: rounding, in another order.
const SINGLE: f64 = 1e-3;

/// The same of `bf16`, whose numbers have eight binary digits.
const HALF: f64 = 0.2;

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// All that an attribution says: the scores of the sum, and those of every output.
fn scores(why: Attribution) -> Vec<f64> {
    [vec![why.scores], why.outputs.into_iter().map(|output| output.scores).collect()].concat().concat()
}

/// FullGrad+ of a number that a model says, walked back by LibraGrad's rules.
fn libragrad(says: impl Fn(&mut dyn Hook) -> Result<Tensor>, layers: usize) -> Result<Vec<f64>> {
    Ok(full_grad_plus(&layer_gradients(says, layers)?)?.scores)
}

fn bert(load: &Load) -> Result<Numbers> {
    let bert = Bert::load_with("pellucid/tiny-bert-sentiment", load)?;
    let text = bert.pad(bert.read("I absolutely loved the movie, but the ending was awful.")?, 24)?;
    let (x, absent) = (bert.embed(&text)?, bert.baseline(&text, &Baseline::token("[MASK]"))?);
    let (target, libra) = (Target::Logit(bert.label("positive")?), bert.under(Rules::libragrad()));
    let f = |x: &Tensor| target.of(&bert.logits(&text, x)?);
    let one = x.unsqueeze(0)?;
    Ok(vec![
        ("logits", numbers(&bert.logits(&text, &one)?)?),
        ("integrated gradients", scores(integrated_gradients(f, &x, &absent, &Steps::gauss_legendre(16))?)),
        ("ablation", scores(feature_ablation(f, &x, &absent, &Groups::rows(&x))?)),
        ("Shapley sampling", scores(shapley_sampling(f, &x, &absent, &Groups::rows(&x), &Permutations::new(2, 0))?)),
        ("SmoothGrad", scores(smooth_grad(f, &x, &Noise::new(0.05, 8, 0))?)),
        ("rollout", numbers(&rollout(&bert.attention(&text)?, &Rollout::default())?)?),
        ("FullGrad+", libragrad(|hook| target.of(&libra.logits_hooked(&text, &one, hook)?), bert.layers())?),
    ])
}

fn decoder(source: &str, load: &Load) -> Result<Numbers> {
    const CONTEXT: &str = "Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.";
    let llm = CausalLm::load_with(source, load)?;
    let asked =
        |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    let (prompt, libra) = (asked(CONTEXT)?, llm.under(Rules::libragrad()));
    let said = llm.continuation(&prompt, "The lamp is in the bedroom.")?;
    let (x, absent) = (llm.embed(&prompt)?, llm.baseline(&prompt, &Baseline::mean())?);
    let f = |x: &Tensor| llm.log_probs(&said, x);
    let (sources, one) = (Sources::sentences(CONTEXT)?, x.unsqueeze(0)?);
    let masks = draw_masks(sources.len(), 8, 0.5, 0)?;
    let cited = |passes| ContextCite::with_passes(&llm, &sources, &masks, &said, asked, &passes)?.log_odds();
    let next = |hook: &mut dyn Hook| Target::Logit(said.ids()[0] as usize).of(&libra.next_logits_hooked(&one, hook)?);
    Ok(vec![
        ("logits", numbers(&llm.logits(&one)?)?),
        ("token × token", scores(integrated_gradients(f, &x, &absent, &Steps::gauss_legendre(8))?)),
        ("ablation", scores(feature_ablation(f, &x, &absent, &Groups::rows(&x))?)),
        ("rollout", numbers(&causal_rollout(&llm.attention(&prompt)?, &Rollout::default())?.reweighted)?),
        ("ContextCite", numbers(&cited(Passes::exact())?)?),
        ("ContextCite, fast", numbers(&cited(Passes::fast(0))?)?),
        ("FullGrad+", libragrad(next, llm.layers())?),
    ])
}

/// A picture with two objects in it.
fn scene() -> Result<Scene> {
    Scene::empty(1).with(Shape::Square, Colour::Red, 18.0, 20.0, 10.0)?.with(
        Shape::Star,
        Colour::Blue,
        46.0,
        40.0,
        12.0,
    )
}

fn vit(load: &Load) -> Result<Numbers> {
    let vit = Vit::load_with("pellucid/tiny-vit-shapes", load)?;
    let (picture, target) = (vit.fit(&scene()?.image()?)?, Target::Logit(vit.label("star")?));
    let (x, libra) = (vit.pixels(&picture)?, vit.under(Rules::libragrad()));
    let (absent, one) = (pellucid::baseline::blurred(&x, 4.0)?, x.unsqueeze(0)?);
    let f = |x: &Tensor| target.of(&vit.logits(x)?);
    let seen = |hook: &mut dyn Hook| target.of(&vit.logits_hooked(&one, hook)?);
    Ok(vec![
        ("logits", numbers(&vit.logits(&one)?)?),
        ("integrated gradients", scores(integrated_gradients(f, &x, &absent, &Steps::gauss_legendre(8))?)),
        ("ablation", scores(feature_ablation(f, &x, &absent, &Groups::patches(&x, 16)?)?)),
        ("rollout", numbers(&rollout(&vit.attention(&picture)?, &Rollout::default())?)?),
        ("GAE", numbers(&gae(&attention_gradients(seen, vit.layers())?)?)?),
        ("FullGrad+", libragrad(|hook| target.of(&libra.logits_hooked(&one, hook)?), vit.layers())?),
    ])
}

fn clip(load: &Load) -> Result<Numbers> {
    let clip = Clip::load_with("pellucid/tiny-clip-shapes", load)?;
    let (prompts, picture) = (clip.prompts(&["a red square", "a blue star", "a red circle"])?, scene()?.image()?);
    let (picture, target, libra) = (clip.fit(&picture)?, Target::Logit(1), clip.under(Rules::libragrad()));
    let x = clip.pixels(&picture)?;
    let (absent, one) = (pellucid::baseline::mean_colour(&x)?, x.unsqueeze(0)?);
    let f = |x: &Tensor| target.of(&clip.logits(&prompts, x)?);
    let seen = |hook: &mut dyn Hook| target.of(&libra.logits_hooked(&prompts, &one, hook)?);
    Ok(vec![
        ("logits", numbers(&clip.logits(&prompts, &one)?)?),
        ("integrated gradients", scores(integrated_gradients(f, &x, &absent, &Steps::gauss_legendre(8))?)),
        ("ablation", scores(feature_ablation(f, &x, &absent, &Groups::patches(&x, 16)?)?)),
        ("rollout", numbers(&rollout(&clip.attention(&picture)?, &Rollout::default())?)?),
        ("FullGrad+", libragrad(seen, clip.layers())?),
    ])
}

fn mixer(load: &Load) -> Result<Numbers> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vision/timm_gmixer");
    let mixer = Mixer::load_with(&folder.to_string_lossy(), load)?;
    let (x, target) = (mixer.pixels(&mixer.fit(&scene()?.image()?)?)?, Target::Logit(1));
    let (absent, one, libra) = (x.zeros_like()?, x.unsqueeze(0)?, mixer.under(Rules::libragrad()));
    let f = |x: &Tensor| target.of(&mixer.logits(x)?);
    Ok(vec![
        ("logits", numbers(&mixer.logits(&one)?)?),
        ("integrated gradients", scores(integrated_gradients(f, &x, &absent, &Steps::gauss_legendre(8))?)),
        ("FullGrad+", libragrad(|hook| target.of(&libra.logits_hooked(&one, hook)?), mixer.layers())?),
    ])
}

fn vlm(load: &Load) -> Result<Numbers> {
    let vlm = Vlm::load_with("pellucid/tiny-vlm-shapes", load)?;
    let prompt = vlm.ask("What colour is the square?", &scene()?.image()?)?;
    let (x, target) = (prompt.pixels()?, Target::Logit(vlm.tokenizer().id("red")? as usize));
    let (said, libra) = (vlm.continuation(&prompt, "red")?, vlm.under(Rules::libragrad()));
    let (absent, seen) = (x.zeros_like()?, vlm.embed(&prompt, &x.unsqueeze(0)?)?);
    let f = |x: &Tensor| target.of(&vlm.logits(&prompt, x)?);
    let hooked = |hook: &mut dyn Hook| target.of(&libra.logits_from_hooked(&prompt, &seen, hook)?);
    Ok(vec![
        ("logits", numbers(&vlm.logits(&prompt, &x.unsqueeze(0)?)?)?),
        ("integrated gradients", scores(integrated_gradients(f, &x, &absent, &Steps::gauss_legendre(4))?)),
        ("rollout", numbers(&causal_rollout(&vlm.attention(&prompt, &said)?, &Rollout::default())?.reweighted)?),
        ("FullGrad+", libragrad(hooked, vlm.llm().layers())?),
    ])
}

/// The largest difference, as a share of the largest number.
fn gap(there: &[f64], here: &[f64]) -> f64 {
    let size = here.iter().fold(f64::MIN_POSITIVE, |size, x| size.max(x.abs()));
    far(there, here) / size
}

fn on(device: &Device, dtype: DType) -> Load {
    Load { device: Some(device.clone()), dtype, ..Load::default() }
}

/// Prints every method's gap between `f32` on the CPU and another precision or device, and the names of those beyond `most`.
fn beyond(most: f64, other: &Load, title: &str) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (model, says) in MODELS {
        for ((what, there), (_, here)) in says(other)?.iter().zip(&says(&on(&Device::Cpu, DType::F32))?) {
            let gap = gap(there, here);
            println!("{title}, {model}, {what}: {gap:.1e} of the largest");
            if gap.is_nan() || gap > most {
                wrong.push(format!("{model}, {what}: {gap:.1e}, more than {most}"));
            }
        }
    }
    Ok(wrong)
}

#[test]
fn what_is_no_number_is_not_the_same() {
    for (there, here) in [([f64::NAN, 1.0], [1.0, 1.0]), ([1.0, 1.0], [1.0, f64::NAN])] {
        assert!(gap(&there, &here).is_nan());
    }
    assert_eq!(gap(&[1.0, -3.0], &[1.0, -4.0]), 0.25);
}

#[test]
fn devices_say_the_same() -> Result<()> {
    let device = device()?;
    if device.is_cpu() {
        println!(
            "SKIPPED: no device but the CPU is named. PELLUCID_DEVICE=cuda:0 cargo test --features cuda --test device -- --nocapture"
        );
        return Ok(());
    }
    for (dtype, most) in [(DType::F32, SINGLE), (DType::BF16, HALF)] {
        let wrong = beyond(most, &on(&device, dtype), &format!("{dtype:?} on {:?}", device.location()))?;
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    Ok(())
}

#[test]
fn the_composed_road_says_the_same() -> Result<()> {
    let wrong = beyond(HALF, &on(&Device::Cpu, DType::BF16), "BF16 on the CPU")?;
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn means_of_half_precision_numbers_are_means() -> Result<()> {
    let like = Tensor::zeros((3, 64, 64), DType::F64, &Device::Cpu)?;
    let picture = pellucid::baseline::noise(&like, 0.7, 0.1, 0)?.to_dtype(DType::BF16)?;
    let right = pellucid::baseline::mean_colour(&picture.to_dtype(DType::F64)?)?;
    let gap = gap(&numbers(&pellucid::baseline::mean_colour(&picture)?)?, &numbers(&right)?);
    assert!(gap < 1.0 / 256.0, "{gap:.1e}, more than the rounding of one number");
    Ok(())
}

#[test]
fn models_are_loaded_where_the_variable_says() -> Result<()> {
    let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    let (x, device) = (bert.embed(&bert.read("a fine film")?)?, device()?);
    assert!(x.device().same_device(&device), "a process has one handle of each device");
    println!("loaded on {:?}", device.location());
    Ok(())
}

#[test]
fn a_device_that_is_not_there_is_an_error_and_never_the_cpu() {
    let missing = if cfg!(feature = "metal") { "cuda" } else { "metal" };
    let expected = format!("compiled without its feature `{missing}`: build with `--features {missing}`");
    for (name, expected) in [("gpu", "expected `cpu`, `cuda:0`"), (&format!("{missing}:0"), &expected)] {
        let mut test = Command::new(std::env::current_exe().expect("a test knows its program"));
        test.args(["--exact", "models_are_loaded_where_the_variable_says", "--nocapture"]).env("PELLUCID_DEVICE", name);
        let done = test.output().expect("a test can be started");
        let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(!done.status.success() && said.contains(expected), "{said}");
    }
}
