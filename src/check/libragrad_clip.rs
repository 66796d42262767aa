//! The exercises of chapter 10.

use std::collections::BTreeSet;

use candle_core::Tensor;

use super::{Gap, Outcome, Verdict, chapters_scene, near, require, same};
use crate::faithfulness::pointing_game;
use crate::model::{Clip, Rules, Vision};
use crate::tensor::numbers;
use crate::zoo::{Scene, Shape};
use crate::{
    Attribution, LayerGradients, Result, Target, full_grad_plus, full_grad_plus_normalised, layer_gradients, skip_plus,
};

const MODEL: &str = "pellucid/tiny-clip-shapes";

/// A prompt's logit walked back under LibraGrad's rules.
fn walked_back(clip: &Clip, prompt: &str, scene: &Scene) -> Result<LayerGradients> {
    let (libra, prompts) = (clip.under(Rules::libragrad()), clip.prompts(&[prompt])?);
    let x = clip.pixels(&scene.image()?)?.unsqueeze(0)?;
    layer_gradients(|hook| Target::Logit(0).of(&libra.logits_hooked(&prompts, &x, hook)?), clip.layers())
}

/// What layers read, with gradients and biases → `(t,)`: the relevance of what the second half of the layers reads, and of their
/// biases and those of the norm behind them.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::second_half(|why| full_grad_plus(why)?.tensor()).passed);
/// ```
pub fn second_half(mine: impl Fn(&LayerGradients) -> Result<Tensor>) -> Verdict {
    Verdict::new(is_second_half(&mine))
}

fn is_second_half(mine: &dyn Fn(&LayerGradients) -> Result<Tensor>) -> Outcome {
    let clip = Clip::load(MODEL)?;
    for prompt in ["a red circle", "a blue star"] {
        let mut why = walked_back(&clip, prompt, &chapters_scene(Shape::Circle)?)?;
        if let Some(last) = why.biases.last_mut() {
            *last = last.ones_like()?; // what CLIP has there is zero, and would not be missed
        }
        let (got, wanted) = (numbers(&mine(&why)?)?, skip_plus(&why)?.scores);
        let alike = |other: &[f64]| got.len() == other.len() && got.iter().zip(other).all(|(a, b)| near(*a, *b, 1e-4));
        require(!alike(&full_grad_plus(&why)?.scores), || {
            "These are all layers; the second half begins at L/2.".into()
        })?;
        let half = why.layers() / 2..why.layers();
        let read = half.map(|layer| why.relevance(layer)).collect::<Result<Vec<_>>>()?;
        let read = Tensor::stack(&read, 0)?.sum(0)?;
        let all_biases = (&read + Tensor::stack(&why.biases, 0)?.sum(0)?)?;
        require(!alike(&numbers(&read)?), || "That is what the layers read. Their biases are missing.".into())?;
        require(!alike(&numbers(&all_biases)?), || {
            "What the layers read is right; the biases are those of all layers.".into()
        })?;
        same(&format!("The scores for «{prompt}»"), &got, &wanted, 1e-4)?;
    }
    Ok("Two of four layers, and every bias from there on once.".into())
}

/// (number of tokens ahead of the patches, scores of all tokens with their law) → how much of the logit is no patch's.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::beside_the_picture(|_, why| why.scores[0]).passed);
/// ```
pub fn beside_the_picture(mine: impl Fn(usize, &Attribution) -> f64) -> Verdict {
    Verdict::new(is_beside_the_picture(&mine))
}

fn is_beside_the_picture(mine: &dyn Fn(usize, &Attribution) -> f64) -> Outcome {
    let clip = Clip::load(MODEL)?;
    for prompt in ["a red circle", "a blue star"] {
        let why = full_grad_plus_normalised(&walked_back(&clip, prompt, &chapters_scene(Shape::Circle)?)?)?;
        let ahead = clip.patches().ahead();
        let (logit, shown) =
            (why.completeness.map_or(f64::NAN, |law| law.promised), why.scores[ahead..].iter().sum::<f64>());
        let got = mine(ahead, &why);
        let tokens: f64 = why.scores[..ahead].iter().sum();
        require(!near(got, tokens, 1e-4), || {
            format!("{got:.3} is the class token's. What is added behind the tokens belongs to none of them.")
        })?;
        require(near(got, logit - shown, 1e-3), || {
            format!("Of {logit:.3} for «{prompt}», patches have {shown:.3}, and you say that {got:.3} is not theirs.")
        })?;
    }
    Ok("What the patches have and this is the whole logit.".into())
}

/// A scene of at least two objects, each of its own name, in which LibraGrad's FullGrad+ for what one of them is called points
/// beside that object.
///
/// ```
/// # use pellucid::prelude::*;
/// let star = Scene::empty(5).with(Shape::Star, Colour::Yellow, 32.0, 32.0, 12.0)?;
/// assert!(!check::libra_looks_elsewhere(&star).passed);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn libra_looks_elsewhere(scene: &Scene) -> Verdict {
    Verdict::new(looks_elsewhere(scene))
}

fn looks_elsewhere(scene: &Scene) -> Outcome {
    require(scene.objects.len() > 1, || "There is one object at most: draw another beside it.".into())?;
    let mut names = BTreeSet::new();
    for name in scene.objects.iter().map(ToString::to_string) {
        require(names.insert(name.clone()), || {
            format!("Here two objects are called «{name}», so a map cannot say which is meant: draw others.")
        })?;
    }
    let clip = Clip::load(MODEL)?;
    for (i, object) in scene.objects.iter().enumerate() {
        let map = full_grad_plus(&walked_back(&clip, &object.to_string(), scene)?)?.over_patches(clip.patches())?;
        if !pointing_game(&map, &scene.mask(i)?)? {
            return Ok(format!("The map of «{object}» has its hottest place beside it."));
        }
    }
    Err(Gap("All objects are found by their names.".into()))
}
