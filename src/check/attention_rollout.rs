//! The exercises of chapter 05.

use candle_core::{DType, Device, Tensor};

use super::{Outcome, Verdict, require, same};
use crate::faithfulness::pointing_game;
use crate::model::{Vision, Vit};
use crate::tensor::numbers;
use crate::zoo::{Scene, Shape};
use crate::{Attribution, HeadFusion, Result, Rollout, baseline};

/// L × `(b,h,t,t)` → `(b,t,t)`: attention rollout with this fusion of heads.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(check::rollout(|maps| rollout(maps, &Rollout::default()), HeadFusion::Mean).passed);
/// ```
pub fn rollout(mine: impl Fn(&[Tensor]) -> Result<Tensor>, fusion: HeadFusion) -> Verdict {
    Verdict::new(rolls_out(&mine, fusion))
}

fn rolls_out(mine: &dyn Fn(&[Tensor]) -> Result<Tensor>, fusion: HeadFusion) -> Outcome {
    let maps = maps(3, 1)?;
    let wanted = crate::rollout(&maps, &Rollout { fusion, ..Rollout::default() })?;
    let got = mine(&maps)?;
    require(got.dims() == wanted.dims(), || {
        format!("From 3 × {:?} I expected {:?}, got {:?}.", maps[0].dims(), wanted.dims(), got.dims())
    })?;
    let got = numbers(&got)?;
    let sums = got.chunks(TOKENS).map(|row| row.iter().sum::<f64>()).collect::<Vec<_>>();
    if let Some(row) = sums.iter().position(|sum| (sum - 1.0).abs() > 1e-6) {
        let what = "A product of recipes is a recipe: are layers' rows divided by their own sums?";
        return Err(super::Gap(format!("Row {row} sums to {:.4} and must sum to 1. {what}", sums[row])));
    }
    let wanted = numbers(&wanted)?;
    for (mistake, what) in mistakes(&maps, fusion)? {
        let mistake = numbers(&mistake)?;
        require(!alike(&got, &mistake) || alike(&mistake, &wanted), || what.into())?;
    }
    same("The rows sum to one, and yet, read row by row", &got, &wanted, 1e-6)?;
    Ok("Rows sum to one, the later layer stands on the left, and every layer keeps its residual.".into())
}

const TOKENS: usize = 5;

/// Seeded patterns of so many layers, three heads and five tokens.
fn maps(layers: usize, seed: u64) -> Result<Vec<Tensor>> {
    let like = Tensor::zeros((1, 3, TOKENS, TOKENS), DType::F64, &Device::Cpu)?;
    let map = |layer: usize| {
        let scores = baseline::noise(&like, 0.0, 1.5, seed + layer as u64)?;
        Ok(candle_nn::ops::softmax(&scores, candle_core::D::Minus1)?)
    };
    (0..layers).map(map).collect()
}

/// What others have computed instead, and what to say then. With the mean over heads some of it is no mistake.
fn mistakes(maps: &[Tensor], fusion: HeadFusion) -> Result<Vec<(Tensor, &'static str)>> {
    let options = Rollout { fusion, ..Rollout::default() };
    let backwards: Vec<Tensor> = maps.iter().rev().cloned().collect();
    let (first, above) = (maps[0].mean(1)?, &maps[1..]);
    let plain = above.iter().try_fold(first.clone(), |rolled, map| map.mean(1)?.matmul(&rolled))?;
    let divided = |map: &Tensor| {
        let largest = map.max_keepdim(1)?;
        largest.broadcast_div(&largest.sum_keepdim(3)?)
    };
    let divided = maps.iter().map(divided).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(vec![
        (
            crate::rollout(&backwards, &options)?,
            "Rows sum to one, but the first layer stands on the left: shares are taken \
          from the layer below, so the later layer comes first in the product.",
        ),
        (
            crate::rollout(&divided, &Rollout::default())?,
            "Rows sum to one, but they were divided before I was added: take ½(A + I) first.",
        ),
        (
            crate::rollout(maps, &Rollout::default())?,
            "Rows sum to one, but this is the mean over heads, and not their maximum.",
        ),
        (plain, "Rows sum to one, but no layer keeps its residual: it is ½(A + I) that is multiplied."),
        (
            crate::rollout(above, &options)?.matmul(&first)?,
            "Rows sum to one, but layer 0 enters without its residual: it is ½(A + I) in every layer.",
        ),
    ])
}

fn alike(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9)
}

/// L × `(1,h,t,t)` → `(1,t)`: the first token's row of the rollout.
///
/// ```
/// # use pellucid::prelude::*;
/// let whole = |maps: &[Tensor]| Ok(rollout(maps, &Rollout::default())?.narrow(1, 0, 1)?.squeeze(1)?);
/// assert!(check::class_row(whole).passed);
/// ```
pub fn class_row(mine: impl Fn(&[Tensor]) -> Result<Tensor>) -> Verdict {
    Verdict::new(is_class_row(&mine))
}

fn is_class_row(mine: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Outcome {
    for layers in [1, 4] {
        let maps = maps(layers, 7)?;
        let got = mine(&maps)?;
        require(got.dims() == [1, TOKENS], || format!("I expected a row (1, {TOKENS}), got {:?}.", got.dims()))?;
        let wanted = numbers(&crate::rollout(&maps, &Rollout::default())?)?;
        same(&format!("With {layers} layers"), &numbers(&got)?, &wanted[..TOKENS], 1e-6)?;
    }
    Ok("The same row as the whole product has, with one layer and with four.".into())
}

/// A scene of two objects or more in which `pellucid/tiny-vit-shapes` is sure of a star, and rollout's hottest place is not on it.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::rollout_looks_elsewhere(&Scene::empty(5)).passed);
/// ```
pub fn rollout_looks_elsewhere(scene: &Scene) -> Verdict {
    Verdict::new(looks_elsewhere(scene))
}

fn looks_elsewhere(scene: &Scene) -> Outcome {
    let star = scene.objects.iter().any(|object| object.shape == Shape::Star);
    require(star && scene.objects.len() > 1, || "I want a star, and something beside it.".into())?;
    let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    let picture = scene.image()?;
    let said = vit.predict(&picture)?;
    let sure = said.iter().find(|(class, _)| class == "star").map_or(0.0, |(_, probability)| *probability);
    require(sure > 0.9, || format!("The model says «star» with {:.0} % only.", 100.0 * sure))?;
    let row = crate::rollout_row(&vit.attention(&picture)?, &vit.readout()?, &Rollout::default())?.squeeze(0)?;
    let why = Attribution::of_patches("attention rollout", &vit.on_grid(&row)?)?;
    let (hottest, columns) = (why.supporting(1).first().copied().unwrap_or(0), vit.patches().grid()[1]);
    let (row, column) = (hottest / columns, hottest % columns);
    for (i, _) in scene.objects.iter().enumerate().filter(|(_, object)| object.shape == Shape::Star) {
        let on_it = pointing_game(&why, &scene.mask(i)?)?;
        require(!on_it, || {
            format!("The hottest patch, row {row}, column {column}, lies on the star, as one would hope.")
        })?;
    }
    Ok(format!("The model is {:.0} % sure of the star, and rollout is hottest somewhere else.", 100.0 * sure))
}
