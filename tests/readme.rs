//! What the README shows is what pellucid makes.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pellucid::prelude::*;

type Outcome<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type Pixels = Vec<u8>;

#[test]
fn the_readme_shows_what_its_program_prints() -> Result<()> {
    let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    let text = bert.read("I absolutely loved the movie!")?;
    let x = bert.embed(&text)?;
    let absent = bert.baseline(&text, &Baseline::token("[MASK]"))?;
    let positive = Target::Logit(bert.label("positive")?);
    let f = |x: &Tensor| positive.of(&bert.logits(&text, x)?);
    let why = integrated_gradients(f, &x, &absent, &Steps::default())?.over(&text)?.words()?;
    let why = why.named(positive.describe(&bert.labels()));
    let readme = include_str!("../README.md");
    // the last line ends in rounding, which differs between machines
    for line in why.text().lines().filter(|line| !line.starts_with("completeness")) {
        assert!(readme.contains(line.trim_end()), "the README lacks «{line}»");
    }
    Ok(())
}

/// The picture is chapter 10's: where four prompts see their object, by the exact gradient and by LibraGrad.
#[test]
fn the_readme_shows_a_picture_that_pellucid_draws() -> Outcome<()> {
    let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    let scene = Scene::empty(11).with(Shape::Circle, Colour::Red, 17.0, 18.0, 11.0)?.with(
        Shape::Star,
        Colour::Blue,
        46.0,
        44.0,
        12.0,
    )?;
    let (picture, ways) = (scene.image()?, [Rules::exact(), Rules::libragrad()]);
    let prompts = ["a red circle", "a blue star", "something red", "something blue"];
    let figure = Gallery::grid(&["exact gradient", "LibraGrad"], &prompts, |row, column| {
        Overlay::new(&picture, &region(&clip, prompts[column], &picture, ways[row])?)
    })?;
    let drawn = Path::new(env!("CARGO_TARGET_TMPDIR")).join("regions.svg");
    figure.save(&drawn)?;
    let (words, pictures) = parts(&std::fs::read_to_string(&drawn)?)?;
    let (shown_words, shown_pictures) = parts(include_str!("../tutorials/regions.svg"))?;
    let hint = format!("tutorials/regions.svg is out of date: {} is not", drawn.display());
    assert!(words == shown_words && pictures.len() == 8 && shown_pictures.len() == 8, "{hint}");
    assert!(pictures.iter().zip(&shown_pictures).all(|(one, other)| apart(one, other) < 1.0), "{hint}");
    Ok(())
}

fn region(clip: &Clip, prompt: &str, picture: &Image, rules: Rules) -> Result<Attribution> {
    let (model, prompts) = (clip.under(rules), clip.prompts(&[prompt])?);
    let x = clip.pixels(picture)?.unsqueeze(0)?;
    let f = |hook: &mut dyn Hook| Target::Logit(0).of(&model.logits_hooked(&prompts, &x, hook)?);
    Ok(full_grad_plus(&layer_gradients(f, clip.layers())?)?.over_patches(clip.patches())?.named(prompt))
}

/// A figure's own text, and the pixels of the pictures in it.
fn parts(svg: &str) -> Outcome<(String, Vec<Pixels>)> {
    let (mut words, mut pictures) = (String::new(), Vec::new());
    for (i, piece) in svg.split("data:image/png;base64,").enumerate() {
        let (data, rest) = if i == 0 { ("", piece) } else { piece.split_once('"').ok_or("a picture has no end")? };
        words.push_str(rest);
        if i > 0 {
            pictures.push(image::load_from_memory(&STANDARD.decode(data)?)?.to_rgb8().into_raw());
        }
    }
    Ok((words, pictures))
}

/// How far two pictures are apart: the mean over pixels and colours, of 255. Rounding differs between machines.
fn apart(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / one.len() as f64
}
