//! AttCAT: gradient × activation of every layer, weighted with the attention that its tokens got.

use candle_core::Tensor;

use crate::attribution::Attribution;
use crate::layer_gradients::LayerGradients;
use crate::patterns::patterns;
use crate::{Error, Result};

/// → `(t,)`: AttCAT, Σ_l α_l·Σ_c x_{l+1}·x̄_{l+1}, with what layer l leaves as x_{l+1}, and α_l = E_{h,i}\[A_l\], the attention
/// that a token gets there, averaged over heads h and queries i (Qiang et al. 2022, *AttCAT: Explaining Transformers via
/// Attentive Class Activation Tokens*, NeurIPS).
///
/// `attention` is the model's, `L × (1,h,t,t)`, as `bert.attention(&text)` yields it.
///
/// Errors: more than one example; not one pattern per layer, or of another size.
///
/// **When it misleads**: a token that many look at is weighted up, whether or not what it says is read.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?.under(Rules::libragrad());
/// let text = bert.read("I absolutely loved the movie!")?;
/// let x = bert.embed(&text)?.unsqueeze(0)?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let layers = layer_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
/// let why = attcat(&layers, &bert.attention(&text)?)?.over(&text)?;
/// assert_eq!(why.scores.len(), text.len());
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn attcat(why: &LayerGradients, attention: &[Tensor]) -> Result<Attribution> {
    let attention = patterns(attention)?;
    if attention.len() != why.layers() {
        return Err(Error::shape("the attention", format!("({}, …), one per layer", why.layers()), &[attention.len()]));
    }
    let map = |(layer, pattern): (usize, &Tensor)| {
        let (relevance, got) = (why.relevance(layer + 1)?, pattern.mean(1)?.mean(1)?);
        match got.dims() == relevance.dims() {
            true => Ok((&relevance * got.to_dtype(relevance.dtype())?)?),
            false => Err(Error::shape(
                "a layer's attention",
                format!("(b, h, t, t) for {:?}", relevance.dims()),
                pattern.dims(),
            )),
        }
    };
    let maps = attention.iter().enumerate().map(map).collect::<Result<Vec<_>>>()?;
    why.scored("AttCAT", &Tensor::stack(&maps, 0)?.sum(0)?)
}
