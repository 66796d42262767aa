//! LeGrad: how much every layer's attention would raise what is said, if the model ended there.

use std::ops::Range;

use candle_core::Tensor;

use crate::attribution::Attribution;
use crate::grad::gradients_of;
use crate::model::hook::{Hook, Site, Tap};
use crate::tensor::{mean_over, numbers};
use crate::{Error, Result, kernel};

/// `f: Hook → (1,)` → `(t,)`: LeGrad, Σ_l E_{h,i}[(∂f_l/∂A_l)⁺] over some layers, with f_l as f of the mean of the tokens that
/// layer l leaves: as if the model ended there (Bousselham et al. 2024, arXiv 2404.03214).
///
/// f runs a model of `depth` layers with the hook it is given: once for each of `layers`. It is meant for models that read
/// a class token or the mean of all. The published maps are drawn from their least to their greatest number, without the
/// class token.
///
/// Errors: f does not return one finite number; no layers, or beyond `depth`; no differentiable path leads from a pattern to f
/// ([`Error::GraphCut`]).
///
/// **When it misleads**: it is positive only, and the attention itself does not weigh: a token that nobody looks at counts if
/// looking would help. Early layers are read by a head that was trained on the last.
///
/// ```
/// # use pellucid::prelude::*;
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
/// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
/// let x = vit.pixels(&scene.image()?)?.unsqueeze(0)?;
/// let star = Target::Logit(vit.label("star")?);
/// let f = |hook: &mut dyn Hook| star.of(&vit.logits_hooked(&x, hook)?);
/// let why = le_grad(f, vit.layers(), 1..vit.layers())?;
/// let map = why.over_patches(vit.patches())?;
/// assert!(map.scores.iter().all(|score| *score >= 0.0));
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn le_grad(f: impl Fn(&mut dyn Hook) -> Result<Tensor>, depth: usize, layers: Range<usize>) -> Result<Attribution> {
    kernel::guard()?;
    if layers.is_empty() || layers.end > depth {
        return Err(Error::argument(format!("layers {layers:?} are not some of 0..{depth}")));
    }
    let maps = layers.map(|layer| of_layer(&f, layer, depth - 1)).collect::<Result<Vec<_>>>()?;
    let scores = numbers(&Tensor::stack(&maps, 0)?.sum(0)?)?;
    Attribution::of_elements("LeGrad", &[scores.len()], scores)
}

/// E_{h,i}[(∂f_l/∂A_l)⁺], `(t,)`.
fn of_layer(f: &dyn Fn(&mut dyn Hook) -> Result<Tensor>, layer: usize, last: usize) -> Result<Tensor> {
    let pattern = Site::Pattern(layer);
    let mut exit = Exit { layer, last, left: None, tap: Tap::new(&[pattern]) };
    let y = f(&mut exit)?;
    let gradient = exit.tap.grad(&gradients_of(&y, 1)?, pattern)?;
    Ok(mean_over(&gradient.relu()?, (1, 2))?.flatten_all()?)
}

/// Has the model end at a layer: what it leaves, averaged over tokens, stands in place of what the last one leaves.
struct Exit {
    layer: usize,
    last: usize,
    left: Option<Tensor>,
    tap: Tap,
}

impl Hook for Exit {
    fn sites(&self) -> Vec<Site> {
        vec![Site::Pattern(self.layer), Site::ResidPost(self.layer), Site::ResidPost(self.last)]
    }

    fn at(&mut self, site: Site, x: Tensor) -> Result<Tensor> {
        if let Site::Pattern(_) = site {
            return self.tap.at(site, x);
        }
        if site == Site::ResidPost(self.layer) {
            self.left = Some(mean_over(&x, 1)?.broadcast_as(x.shape())?.contiguous()?);
        }
        match &self.left {
            Some(left) if site == Site::ResidPost(self.last) => Ok(left.clone()),
            _ => Ok(x),
        }
    }
}
