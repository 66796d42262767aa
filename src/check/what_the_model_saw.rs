//! The exercises of chapter 07.

use std::ops::Range;

use candle_core::Tensor;

use super::{Outcome, Verdict, chapters_scene, near, require, same_drops};
use crate::model::{Image, Sampling, VisualPrompt, Vlm};
use crate::tensor::numbers;
use crate::zoo::{Colour, Scene, Shape};
use crate::{Groups, Result, Target, feature_ablation};

const MODEL: &str = "pellucid/tiny-vlm-shapes";

/// Scores of tokens, and which of them are the picture's → the picture's share of Σ |scores|; 0 if no token has a score.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::picture_share(|scores, picture| scores[picture].iter().sum()).passed);
/// ```
pub fn picture_share(mine: impl Fn(&[f64], Range<usize>) -> f64) -> Verdict {
    let cases: [(&[f64], Range<usize>, f64); 3] =
        [(&[1.0, 2.0, -1.0, 4.0], 1..3, 0.375), (&[-2.0, 0.0, 0.5, 1.5], 0..1, 0.5), (&[0.0, 0.0, 0.0], 1..2, 0.0)];
    let all = cases.into_iter().try_for_each(|(scores, picture, wanted)| {
        let got = mine(scores, picture.clone());
        require(near(got, wanted, 1e-9), || {
            format!("Of the scores {scores:?} with the picture at {picture:?} I expected {wanted}, got {got:.4}.")
        })
    });
    Verdict::new(all.map(|()| "A share between 0 and 1, whatever the signs, and no evidence has no share.".into()))
}

/// (model, prompt, target, absent pixels) → by how much the target falls when the pixels of one visual token are painted over; a
/// number for each visual token, row by row.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::cell_drops(|_, prompt, _, _| Ok(vec![0.0; prompt.visual().len()])).passed);
/// ```
pub fn cell_drops(mine: impl Fn(&Vlm, &VisualPrompt, Target, &Tensor) -> Result<Vec<f64>>) -> Verdict {
    Verdict::new(are_cell_drops(&mine))
}

type CellDrops<'a> = dyn Fn(&Vlm, &VisualPrompt, Target, &Tensor) -> Result<Vec<f64>> + 'a;

fn are_cell_drops(mine: &CellDrops) -> Outcome {
    let vlm = Vlm::load(MODEL)?;
    let target = Target::Logit(vlm.tokenizer().id("red")? as usize);
    let square = chapters_scene(Shape::Square)?.image()?;
    let wide = Image::from_pixels(&square.pixels()?.narrow(1, 0, 32)?)?;
    for (what, picture) in [("the chapter's picture", square), ("a wide picture", wide)] {
        let prompt = vlm.ask("What colour is the square?", &picture)?;
        let (x, visual) = (prompt.pixels()?, prompt.visual().len());
        let black = x.zeros_like()?;
        let cells = Groups::patches(&x, x.dim(1)? / prompt.grid()[0])?;
        let got = mine(&vlm, &prompt, target, &black)?;
        require(got.len() != 4 * visual, || {
            format!("{} numbers are one for each patch; the language model reads {visual} visual tokens.", got.len())
        })?;
        let wanted = feature_ablation(|x| target.of(&vlm.logits(&prompt, x)?), &x, &black, &cells)?.scores;
        same_drops(&format!("The drops of {what}"), &got, &wanted, 1e-3)?;
    }
    Ok("One drop for each visual token, row by row, in a square picture and in a wide one.".into())
}

/// A question, not about the sky, that the model answers by the same colour whatever the picture shows.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::language_prior("What colour is the square?").passed);
/// ```
pub fn language_prior(question: &str) -> Verdict {
    Verdict::new(is_language_prior(question))
}

fn is_language_prior(question: &str) -> Outcome {
    let of_sky = question.to_lowercase().contains("sky");
    require(!of_sky, || "The sky is the chapter's own example; find another.".into())?;
    let vlm = Vlm::load(MODEL)?;
    let scene = chapters_scene(Shape::Square)?;
    let black = Image::from_pixels(&scene.image()?.pixels()?.zeros_like()?)?;
    let other = Scene::empty(5).with(Shape::Square, Colour::Green, 40.0, 24.0, 11.0)?;
    let pictures = [scene.image()?, other.image()?, Scene::empty(11).image()?, black];
    let prompts: Vec<VisualPrompt> =
        pictures.iter().map(|picture| vlm.ask(question, picture)).collect::<Result<_>>()?;
    let sampling = Sampling::greedy(24);
    let answers = prompts.iter().map(|prompt| vlm.generate(prompt, &sampling)).collect::<Result<Vec<_>>>()?;
    let first = &answers[0];
    let odd = answers.iter().map(|answer| answer.text()).find(|text| *text != first.text());
    require(odd.is_none(), || {
        format!("The answer is «{}» to one picture and «{}» to another.", first.text(), odd.unwrap_or_default())
    })?;
    let is_colour = Colour::ALL.into_iter().any(|colour| colour.to_string() == first.text());
    require(is_colour, || format!("«{}» is no colour: the model does not know this question.", first.text()))?;
    let target = Target::Logit(first.ids()[0] as usize);
    let x = prompts.iter().map(VisualPrompt::pixels).collect::<Result<Vec<_>>>()?;
    let logits = numbers(&target.of(&vlm.logits(&prompts[0], &Tensor::stack(&x, 0)?)?)?)?;
    let change = logits.iter().map(|logit| (logit - logits[0]).abs()).fold(0.0, f64::max);
    let said = format!("Of {} pictures it says «{}»", pictures.len(), first.text());
    require(change < 2.0, || format!("{said}, but they change its logit by {change:.2}; I want less than 2."))?;
    Ok(format!("{said}, and they change its logit by {change:.2} at most."))
}
