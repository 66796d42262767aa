//! The exercises of chapter 11.

use candle_core::{Device, Tensor};

use super::{Outcome, Verdict, near, require};
use crate::faithfulness::{Measure, TENTHS, deletion};
use crate::model::{Vision, Vit};
use crate::zoo::Scenes;
use crate::{Attribution, Result, Target};

const MODEL: &str = "pellucid/tiny-vit-shapes";

/// (said most important first, said least important first) → the area between the curves, positive for a good map.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::area_between(|most, _| most.iter().sum()).passed);
/// ```
pub fn area_between(mine: impl Fn(&[f64], &[f64]) -> f64) -> Verdict {
    let cases: [(&[f64], &[f64], f64); 3] =
        [(&[0.2, 0.0], &[1.0, 0.6], 0.7), (&[0.5, 0.5, 0.5], &[0.5, 0.5, 0.5], 0.0), (&[0.9], &[0.1], -0.8)];
    let all = cases.into_iter().try_for_each(|(most, least, wanted)| {
        let got = mine(most, least);
        let turned = wanted != 0.0 && near(got, -wanted, 1e-9);
        require(!turned, || {
            "The sign is the other way round: a good map's least-first curve is the upper one.".into()
        })?;
        require(near(got, wanted, 1e-9), || {
            format!("Of {most:?} most first and {least:?} least first I expected {wanted}, got {got:.4}.")
        })
    });
    Verdict::new(all.map(|()| "The mean distance between the curves, with its sign.".into()))
}

/// (one method's numbers, another's on the same examples) → the mean of the differences, and its standard error.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::paired_difference(|_, _| (0.0, 0.0)).passed);
/// ```
pub fn paired_difference(mine: impl Fn(&[f64], &[f64]) -> (f64, f64)) -> Verdict {
    Verdict::new(is_paired(&mine))
}

/// Two methods' numbers → the mean of the differences, and its standard error.
type Compared<'a> = dyn Fn(&[f64], &[f64]) -> (f64, f64) + 'a;

fn is_paired(mine: &Compared) -> Outcome {
    let hard = [0.9, 0.1, 0.5, 0.3, 0.7];
    let better = hard.map(|value| value + 0.05);
    let (lift, error) = mine(&better, &hard);
    require(near(lift, 0.05, 1e-9), || format!("The mean of the differences is 0.05 here; you have {lift:.4}."))?;
    require(error.abs() < 1e-9, || {
        format!(
            "One method is better by 0.05 on every example, so nothing is uncertain; you have ±{error:.3}, which is how much the \
             examples differ, not the methods."
        )
    })?;
    let (a, b) = ([1.0, 4.0, 2.0, 7.0], [0.0, 2.0, 3.0, 3.0]);
    let (lift, error) = mine(&a, &b);
    let wanted = (1.5, (13.0f64 / 3.0).sqrt() / 2.0);
    require(near(lift, wanted.0, 1e-9), || format!("Of {a:?} and {b:?} the mean difference is 1.5, got {lift:.4}."))?;
    let without_bessel = near(error, (13.0f64 / 4.0).sqrt() / 2.0, 1e-9);
    require(!without_bessel, || "Almost: the variance of n differences has n − 1 in its denominator.".into())?;
    let spread = near(error, (13.0f64 / 3.0).sqrt(), 1e-9);
    require(!spread, || "That is how much one difference varies; the mean of n varies less, by √n.".into())?;
    require(near(error, wanted.1, 1e-9), || format!("Its standard error is {:.4}, got {error:.4}.", wanted.1))?;
    Ok("Differences first, then their mean and its error: what examples have in common cancels.".into())
}

/// Pixels `(3,64,64)` → 64 scores, without asking the model: such that deletion is satisfied all the same.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::blind_map(|_| Ok(vec![0.0; 64])).passed);
/// ```
pub fn blind_map(mine: impl Fn(&Tensor) -> Result<Vec<f64>>) -> Verdict {
    Verdict::new(is_blind_map(&mine))
}

fn is_blind_map(mine: &dyn Fn(&Tensor) -> Result<Vec<f64>>) -> Outcome {
    const ENOUGH: f64 = 0.5;
    let vit = Vit::load(MODEL)?;
    let (mut gains, mut asked) = (Vec::new(), 0);
    for scene in Scenes::of(MODEL)?.scenes.iter().filter(|scene| scene.objects.len() > 1).take(8) {
        let x = vit.pixels(&scene.image()?)?;
        let scores = mine(&x)?;
        require(scores.len() == 64, || {
            format!("A map has 64 scores, one for each patch, row by row; yours has {}.", scores.len())
        })?;
        let why = Attribution::of_patches("blind", &Tensor::from_vec(scores, (8, 8), &Device::Cpu)?)?;
        for object in &scene.objects {
            let target = Target::Logit(vit.label(&object.shape.to_string())?);
            let curves = deletion(|present| target.of(&vit.logits_with(&x, present)?), &why, 0, &TENTHS)?;
            gains.push(curves.srg(Measure::Probability));
            asked += 1;
        }
    }
    let mean = gains.iter().sum::<f64>() / f64::from(asked);
    require(mean > ENOUGH, || {
        format!(
            "The mean SRG over {asked} questions is {mean:.2}, and I want more than {ENOUGH}. What do objects have that a background has not?"
        )
    })?;
    Ok(format!(
        "A mean SRG of {mean:.2} over {asked} questions, by a map that never saw the model and is the same for every class."
    ))
}
