//! Grad-ECLIP: the values that the class token's last attention reads, weighted with its gradient and loosened attention.

use candle_core::{D, IndexOp, Tensor};

use crate::attribution::Attribution;
use crate::grad::gradients_of;
use crate::model::hook::{Hook, Site, Watch};
use crate::tensor::{at_least_single, numbers};
use crate::{Error, Result, kernel};

/// `f: Hook → (1,)` → `(t,)`: Grad-ECLIP, (λⱼ·⟨∂f/∂z, vⱼ⟩)⁺ for every token j, with z as what attention of a layer makes for
/// the token that is read, and λⱼ its cosine with key j, from 0 for the least to 1 for the greatest (Zhao et al., *Grad-ECLIP:
/// Gradient-based Visual and Textual Explanations for CLIP*, arXiv 2502.18816).
///
/// f runs a model with the hook it is given; `layer` is the last (`clip.layers() - 1`) and `read` the class token's place, 0.
/// That token itself scores 0.
///
/// The authors' code works the last attention out anew with a single head, which is another model, and takes the cosine of
/// projected queries and keys; here the model's own heads stay, and queries and keys are as attention reads them.
///
/// Errors: f does not return one finite number; there is no such layer or token; keys that several queries share; no
/// differentiable path leads from the attention to f ([`Error::GraphCut`]).
///
/// **When it misleads**: it is positive only, and λ is not what the model weighs with: a token that the attention hardly looks
/// at counts nearly as much as its neighbours. Under LibraGrad, gradient × input keeps the weights that were used.
///
/// ```
/// # use pellucid::prelude::*;
/// let clip = Clip::load("pellucid/tiny-clip-shapes")?;
/// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
/// let (prompts, x) = (clip.prompts(&["a red star"])?, clip.pixels(&scene.image()?)?.unsqueeze(0)?);
/// let f = |hook: &mut dyn Hook| Target::Logit(0).of(&clip.logits_hooked(&prompts, &x, hook)?);
/// let why = grad_eclip(f, clip.layers() - 1, 0)?;
/// let map = why.over_patches(clip.patches())?;
/// assert!(map.scores.iter().all(|score| *score >= 0.0));
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn grad_eclip(f: impl Fn(&mut dyn Hook) -> Result<Tensor>, layer: usize, read: usize) -> Result<Attribution> {
    kernel::guard()?;
    let (qkv, z) = (Site::Qkv(layer), Site::Z(layer));
    let mut watch = Watch::new(&[qkv, z]);
    let y = f(&mut watch)?;
    let gradient = at_least_single(&watch.tap.grad(&gradients_of(&y, 1)?, z)?)?.squeeze(0)?;
    let [queries, keys, values] = parts(&at_least_single(watch.record.get(qkv)?)?.squeeze(0)?, &gradient)?;
    if read >= gradient.dim(0)? {
        return Err(Error::out_of_range("token", read, gradient.dim(0)?));
    }
    let cosines = numbers(&unit(&keys)?.broadcast_mul(&unit(&queries)?.i(read)?)?.sum(1)?)?;
    let weighed = numbers(&values.broadcast_mul(&gradient.i(read)?)?.sum(1)?)?;
    let loosened = loosened(&cosines, read);
    let scores: Vec<f64> = weighed.iter().zip(loosened).map(|(value, weight)| (value * weight).max(0.0)).collect();
    Attribution::of_elements("Grad-ECLIP", &[scores.len()], scores)
}

/// Queries, keys and values, each as wide as z.
fn parts(qkv: &Tensor, z: &Tensor) -> Result<[Tensor; 3]> {
    let (width, channels) = (z.dim(1)?, qkv.dim(1)?);
    if channels != 3 * width {
        let wanted = format!("(t, 3·{width}): as many keys and values as queries");
        return Err(Error::shape("queries, keys and values", wanted, qkv.dims()));
    }
    let part = |i: usize| qkv.narrow(1, i * width, width);
    Ok([part(0)?, part(1)?, part(2)?])
}

/// Rows of length one.
fn unit(rows: &Tensor) -> Result<Tensor> {
    Ok(rows.broadcast_div(&rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)?)
}

/// From 0 for the least to 1 for the greatest of the others; 0 for the token that is read.
fn loosened(cosines: &[f64], read: usize) -> Vec<f64> {
    let others = || cosines.iter().enumerate().filter(|(j, _)| *j != read).map(|(_, cosine)| *cosine);
    let (least, greatest) = (others().fold(f64::INFINITY, f64::min), others().fold(f64::NEG_INFINITY, f64::max));
    let span = (greatest - least).max(f64::MIN_POSITIVE);
    let weight = |(j, cosine): (usize, &f64)| if j == read { 0.0 } else { (cosine - least) / span };
    cosines.iter().enumerate().map(weight).collect()
}
