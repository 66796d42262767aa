//! Class activation maps over a transformer's tokens.

use candle_core::{D, Tensor};

use crate::attribution::Attribution;
use crate::layer_gradients::LayerGradients;
use crate::tensor::wide;
use crate::{Error, Result};

/// → `(t,)`: HiResCAM, Σ_c x·x̄ of what the last block reads (Draelos & Carin 2020, arXiv 2011.08891, with its sign).
///
/// Errors: more than one example.
///
/// **When it misleads**: by the last block tokens have mixed; a token there is not what stood at its place.
///
/// ```
/// # use pellucid::prelude::*;
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?.under(Rules::libragrad());
/// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
/// let x = vit.pixels(&scene.image()?)?.unsqueeze(0)?;
/// let star = Target::Logit(vit.label("star")?);
/// let layers = layer_gradients(|hook| star.of(&vit.logits_hooked(&x, hook)?), vit.layers())?;
/// let map = hires_cam(&layers)?.over_patches(vit.patches())?;
/// assert_eq!(map.scores.len(), vit.patches().count());
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn hires_cam(why: &LayerGradients) -> Result<Attribution> {
    let last = why.layers().checked_sub(1).ok_or_else(|| Error::argument("there must be at least one layer"))?;
    why.scored("HiResCAM", &why.relevance(last)?)
}

/// → `(t,)`: Grad-CAM+, Σ_l Σ_c w_c·x_l with w = the mean of x̄_l over tokens (Selvaraju et al. 2017, arXiv 1610.02391, eqs. 1
/// and 2, without the ReLU), over what every block reads.
///
/// Errors: more than one example.
///
/// **When it misleads**: a channel has one weight for all tokens, so what the gradient says about single tokens is lost.
///
/// ```
/// # use pellucid::prelude::*;
/// # let vit = Vit::load("pellucid/tiny-vit-shapes")?.under(Rules::libragrad());
/// # let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
/// # let x = vit.pixels(&scene.image()?)?.unsqueeze(0)?;
/// # let star = Target::Logit(vit.label("star")?);
/// # let layers = layer_gradients(|hook| star.of(&vit.logits_hooked(&x, hook)?), vit.layers())?;
/// assert_eq!(grad_cam_plus(&layers)?.scores.len(), vit.patches().ahead() + vit.patches().count());
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn grad_cam_plus(why: &LayerGradients) -> Result<Attribution> {
    over_layers("Grad-CAM+", why, |_, gradient| Ok(gradient.mean_keepdim(1)?))
}

/// → `(t,)`: XGrad-CAM+, the same with w = Σ_t x̄_l·|x_l| / Σ_t |x_l|, the gradient's mean weighted with the activation (Fu et
/// al. 2020, arXiv 2008.02312). Transformers' activations have both signs, so they are weighted by their size.
///
/// Errors and caveats: those of [`grad_cam_plus`].
///
/// ```
/// # use pellucid::prelude::*;
/// # let vit = Vit::load("pellucid/tiny-vit-shapes")?.under(Rules::libragrad());
/// # let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
/// # let x = vit.pixels(&scene.image()?)?.unsqueeze(0)?;
/// # let star = Target::Logit(vit.label("star")?);
/// # let layers = layer_gradients(|hook| star.of(&vit.logits_hooked(&x, hook)?), vit.layers())?;
/// assert_eq!(x_grad_cam_plus(&layers)?.scores.len(), vit.patches().ahead() + vit.patches().count());
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn x_grad_cam_plus(why: &LayerGradients) -> Result<Attribution> {
    const LEAST: f64 = 1e-7;
    over_layers("XGrad-CAM+", why, |x, gradient| {
        let size = x.abs()?;
        let total = (size.sum_keepdim(1)? + LEAST)?;
        Ok((gradient * size)?.sum_keepdim(1)?.div(&total)?)
    })
}

/// Σ_l Σ_c w_c·x_l, with the weights `(b,1,c)` that are made of a layer's x and x̄.
fn over_layers(
    method: &str,
    why: &LayerGradients,
    weights: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Attribution> {
    let map = |(x, gradient): (&Tensor, &Tensor)| {
        let (x, gradient) = (x.to_dtype(wide(x))?, gradient.to_dtype(wide(x))?);
        Ok(x.broadcast_mul(&weights(&x, &gradient)?)?.sum(D::Minus1)?)
    };
    let read = why.inputs.iter().zip(&why.gradients).take(why.layers());
    let maps = read.map(map).collect::<Result<Vec<_>>>()?;
    why.scored(method, &Tensor::stack(&maps, 0)?.sum(0)?)
}
