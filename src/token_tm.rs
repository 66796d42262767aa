//! TokenTM: attention rolled out with how much each token was changed on the way.
//!
//! Wu et al., *Token Transformation Matters: Towards Faithful Post-hoc Explanation for Vision Transformer*, CVPR 2024,
//! arXiv 2403.14552.

use candle_core::{D, Tensor};

use crate::grad::gradients_of;
use crate::model::hook::{Hook, Site, Watch};
use crate::patterns::{no_layers, patterns};
use crate::rollout::{identity, mean};
use crate::tensor::{at_least_single, numbers};
use crate::{Error, Result, kernel};

/// `f: Hook → (b,)` → `(b,t,t)`: TokenTM over a model's first `layers` layers (all of them: `vit.layers()`). From C = diag‖x₀‖,
/// every layer has
///
/// `C ← (I + W(m, y))·(I + E_h[A]·W(x, m) ∘ E_h[(∂f/∂A)⁺])·C`
///
/// with x, m and y as the residual stream before its attention, between and after its feed-forward network, and
/// `W(e, e′) = diag(‖e′‖/‖e‖ · softmax(cos(e, e′)))` over the tokens.
///
/// Row i says what position i took from each token: of a class token's row, the patches. A token counts for as much longer
/// as it became, and the more the less it was turned.
///
/// f runs a model with the hook it is given, and returns one number per example: the logit of the class to explain. As in
/// the comparison of LibraGrad's authors, e′ is the residual stream with what was added to e.
///
/// Errors: f does not return one finite number per example; the model has fewer layers, or layers without attention; a token
/// whose embedding is zero; no differentiable path leads from a pattern to f ([`Error::GraphCut`]).
///
/// **When it misleads**: it is positive only. The softmax over t tokens makes W about 1/t, so that with many tokens the map is
/// nearly ‖x₀‖ on the diagonal, and the class token's row is decided by small numbers; compare within a row. As in
/// [`gae`](crate::gae), the scale is the gradient's.
///
/// ```
/// # use pellucid::prelude::*;
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
/// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
/// let x = vit.pixels(&scene.image()?)?.unsqueeze(0)?;
/// let star = Target::Logit(vit.label("star")?);
/// let why = token_tm(|hook| star.of(&vit.logits_hooked(&x, hook)?), vit.layers())?;
/// let map = Attribution::of_patches("TokenTM", &vit.on_grid(&why.i((0, 0))?)?)?;
/// assert!(pellucid::faithfulness::pointing_game(&map, &scene.mask(0)?)?);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn token_tm(f: impl Fn(&mut dyn Hook) -> Result<Tensor>, layers: usize) -> Result<Tensor> {
    kernel::guard()?;
    let last = layers.checked_sub(1).ok_or_else(no_layers)?;
    let stream: Vec<Site> = (0..layers).flat_map(|l| [Site::ResidPre(l), Site::ResidMid(l)]).collect();
    let stream = [stream, vec![Site::ResidPost(last)]].concat();
    let patterned: Vec<Site> = (0..layers).map(Site::Pattern).collect();
    let mut watch = Watch::new(&[stream.as_slice(), &patterned].concat());
    let y = f(&mut watch)?;
    let states = stream.iter().map(|site| State::of(watch.record.get(*site)?)).collect::<Result<Vec<_>>>()?;
    let weights = states.windows(2).map(|two| two[1].since(&two[0])).collect::<Result<Vec<_>>>()?;
    let x0 = &states[0].lengths;
    let gradients = gradients_of(&y, x0.dim(0)?)?;
    let mut map = identity(x0)?.broadcast_mul(&x0.unsqueeze(1)?)?;
    for (l, weights) in weights.chunks(2).enumerate() {
        let pattern = mean(&patterns(std::slice::from_ref(watch.record.get(Site::Pattern(l))?))?[0])?;
        let gradient = mean(&at_least_single(&watch.tap.grad(&gradients, Site::Pattern(l))?)?.relu()?)?;
        let mixed = pattern.broadcast_mul(&weights[0].unsqueeze(1)?)?.mul(&gradient)?.matmul(&map)?;
        map = (map + mixed)?;
        map = (&map + map.broadcast_mul(&weights[1].unsqueeze(2)?)?)?;
    }
    Ok(map)
}

/// The residual stream somewhere: its tokens `(b,t,c)`, and how long they are, `(b,t)`.
struct State {
    tokens: Tensor,
    lengths: Tensor,
}

impl State {
    /// Errors: a token without length, which has no direction.
    fn of(tokens: &Tensor) -> Result<Self> {
        let tokens = at_least_single(&tokens.detach())?;
        let lengths = tokens.sqr()?.sum(D::Minus1)?.sqrt()?;
        match numbers(&lengths)?.contains(&0.0) {
            false => Ok(Self { tokens, lengths }),
            true => Err(Error::argument("a token's embedding is zero, so that it has no direction that could turn")),
        }
    }

    /// ‖e′‖/‖e‖ · softmax(cos(e, e′)), `(b,t)`: how much each token was lengthened since, and how little turned.
    fn since(&self, before: &Self) -> Result<Tensor> {
        let dots = (&before.tokens * &self.tokens)?.sum(D::Minus1)?;
        let cosines = (dots / (&before.lengths * &self.lengths)?)?;
        Ok(((&self.lengths / &before.lengths)? * candle_nn::ops::softmax(&cosines, D::Minus1)?)?)
    }
}
