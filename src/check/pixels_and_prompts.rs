//! The exercises of chapter 06.

use candle_core::Tensor;

use super::{Outcome, Verdict, chapters_scene, near, require};
use crate::model::{Clip, Vision};
use crate::tensor::numbers;
use crate::zoo::{Scene, Shape};
use crate::{Groups, Result};

/// Scores of pixels, mask of ones and zeros → the share of all positive scores that lies on ones.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::relevance_mass(|scores, _| scores.iter().sum()).passed);
/// ```
pub fn relevance_mass(mine: impl Fn(&[f64], &[u8]) -> f64) -> Verdict {
    let cases: [(&[f64], &[u8], f64); 3] = [
        (&[1.0, 2.0, 1.0, 4.0], &[0, 1, 1, 0], 0.375),
        (&[1.0, -2.0, 3.0, -4.0], &[1, 1, 0, 0], 0.25),
        (&[0.5, 0.5, -9.0, 0.0], &[1, 1, 0, 1], 1.0),
    ];
    let all = cases.into_iter().try_for_each(|(scores, mask, wanted)| {
        let got = mine(scores, mask);
        require(near(got, wanted, 1e-9), || {
            format!("Of the scores {scores:?} with the mask {mask:?} I expected {wanted}, got {got:.4}.")
        })
    });
    Verdict::new(all.map(|()| "A share between 0 and 1, and what is negative counts as nothing.".into()))
}

/// (scene, pixels) → groups of which the last is the scene's last object, and nothing else.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::last_object(|_, x| Ok(Groups::elements(x))).passed);
/// ```
pub fn last_object(mine: impl Fn(&Scene, &Tensor) -> Result<Groups>) -> Verdict {
    Verdict::new(is_last_object(&mine))
}

fn is_last_object(mine: &dyn Fn(&Scene, &Tensor) -> Result<Groups>) -> Outcome {
    let both = chapters_scene(Shape::Circle)?;
    for scene in [both.clone(), both.without(1)?] {
        let x = scene.image()?.pixels()?;
        let groups = mine(&scene, &x)?;
        let number = scene.objects.len() - 1;
        let mask = numbers(&scene.mask(number)?)?;
        require(!groups.is_empty(), || "There are no groups.".into())?;
        let mut taken = vec![0.0; x.elem_count()];
        let last = groups.members(groups.len() - 1);
        require(last.iter().all(|&element| element < taken.len()), || "The groups are of another picture.".into())?;
        last.iter().for_each(|&element| taken[element] = 1.0);
        let wrong = taken.iter().enumerate().filter(|(i, taken)| **taken != mask[i % mask.len()]).count();
        let object = &scene.objects[number];
        require(wrong == 0, || {
            format!("For {object} the last group differs from the object in {wrong} of {} elements.", taken.len())
        })?;
    }
    Ok("Exactly the object's pixels, in all three channels, in two scenes.".into())
}

/// A prompt that names a shape which the chapter's scene, a red circle and a blue star, does not have, and fits within half a
/// unit as well as «a blue star» does.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::false_friend("a green square").passed);
/// ```
pub fn false_friend(prompt: &str) -> Verdict {
    Verdict::new(is_false_friend(prompt))
}

fn is_false_friend(prompt: &str) -> Outcome {
    let prompt_has = |shape: &str| prompt.to_lowercase().contains(shape);
    let names_both = prompt_has("circle") || prompt_has("star");
    require(!names_both, || format!("«{prompt}» names a shape that is there; leave «circle» and «star» out."))?;
    let absent = Shape::ALL.into_iter().filter(|shape| !matches!(shape, Shape::Circle | Shape::Star));
    let names_one = absent.map(|shape| shape.to_string()).any(|shape| prompt_has(&shape));
    require(names_one, || format!("«{prompt}» names no shape that is missing: square, triangle, cross or ring."))?;
    let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    let picture = chapters_scene(Shape::Circle)?.image()?;
    let prompts = clip.prompts(&[prompt, "a blue star"])?;
    let logits = numbers(&clip.logits(&prompts, &clip.pixels(&picture)?.unsqueeze(0)?)?)?;
    let said = format!("«{prompt}» has {:.2}, and «a blue star», which is there, has {:.2}.", logits[0], logits[1]);
    require(logits[0] > logits[1] - 0.5, || said.clone())?;
    Ok(said)
}
