//! Attention weighted with its gradient, and rolled out: the maps of one class.
//!
//! Chefer, Gur & Wolf, *Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers*,
//! 2021, arXiv 2103.15679.

use candle_core::Tensor;

use crate::grad::gradients_of;
use crate::model::hook::{Hook, Site, Watch};
use crate::patterns::{bidirectional, no_layers, patterns};
use crate::rollout::{Rollout, identity, mean, mixed, product, rows_to_one};
use crate::tensor::at_least_single;
use crate::{Error, Result, kernel};

/// A model's attention patterns, and the gradient of a number with respect to each of their weights.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let x = bert.embed(&text)?.unsqueeze(0)?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let AttentionGradients { patterns, gradients } =
///     attention_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
/// let relevance = (&patterns[2] * &gradients[2])?.relu()?.mean(1)?;    // (b,t,t)
/// assert_eq!(relevance.dims(), [1, text.len(), text.len()]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AttentionGradients {
    /// A, `(b,h,t,t)` for every layer.
    pub patterns: Vec<Tensor>,
    /// ∂f/∂A, of the same shapes.
    pub gradients: Vec<Tensor>,
}

/// `f: Hook → (b,)` → the patterns of its first `layers` layers (all of them: `bert.layers()`), `(b,h,t,t)` each, and their
/// gradients.
///
/// f runs a model with the hook it is given, and returns one number per example: the logit of the class to explain. One
/// forward and one walk back serve all layers. A weight is varied by itself, as if its row did not have to sum to one.
///
/// Errors: f does not return one finite number per example; the model has fewer layers; no differentiable path
/// leads from the patterns to f ([`Error::GraphCut`]).
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let x = bert.embed(&text)?.unsqueeze(0)?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let why = attention_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
/// assert_eq!(why.gradients[0].dims(), why.patterns[0].dims());
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn attention_gradients(f: impl Fn(&mut dyn Hook) -> Result<Tensor>, layers: usize) -> Result<AttentionGradients> {
    kernel::guard()?;
    let sites: Vec<_> = (0..layers).map(Site::Pattern).collect();
    let mut watch = Watch::new(&sites);
    let y = f(&mut watch)?;
    let patterns = watch.record.all()?;
    let b = patterns.first().ok_or_else(no_layers)?.dim(0)?;
    let grads = gradients_of(&y, b)?;
    let gradients = sites.iter().map(|&site| watch.tap.grad(&grads, site)).collect::<Result<_>>()?;
    Ok(AttentionGradients { patterns, gradients })
}

impl AttentionGradients {
    /// A ∘ ∂f/∂A of patterns that were checked, `(b,h,t,t)` for every layer.
    fn weigh(&self, patterns: &[Tensor]) -> Result<Vec<Tensor>> {
        if self.gradients.len() != patterns.len() {
            let wanted = format!("({}, …), one per layer", patterns.len());
            return Err(Error::shape("the list of gradients", wanted, &[self.gradients.len()]));
        }
        let weigh = |(pattern, gradient): (&Tensor, &Tensor)| match gradient.dims() == pattern.dims() {
            true => Ok((pattern * at_least_single(&gradient.detach())?.to_dtype(pattern.dtype())?)?),
            false => Err(Error::shape("a gradient", format!("{:?}, its pattern's", pattern.dims()), gradient.dims())),
        };
        patterns.iter().zip(&self.gradients).map(weigh).collect()
    }
}

/// → `(b,t,t)`: [`rollout`](crate::rollout()) of A ∘ ∂f/∂A instead of A: heads fused, negative weights set to zero, then the
/// weakest discarded, ½(F + I), rows divided by their sums, and layers multiplied.
///
/// The idea is vit-explain's (Gildenblat 2020). Its code pairs each layer's pattern with another layer's gradient, for the
/// backward hooks fire in reverse order, and divides columns where it means rows; here both are mended.
///
/// Errors: those of [`rollout`](crate::rollout()); gradients that are not of the patterns' shapes.
///
/// **When it misleads**: gradients have a unit, and the ½ of the residual has none: where gradients are small (a sure
/// classifier's always are), the map is nearly I, whatever they say. [`gae`] has the same I and no ½; compare maps within a
/// row.
///
/// ```
/// # use pellucid::prelude::*;
/// let pattern = Tensor::new(&[[[[0.5f64, 0.5], [0.5, 0.5]]]], &Device::Cpu)?;
/// let gradient = Tensor::new(&[[[[0.0f64, 2.0], [-2.0, 0.0]]]], &Device::Cpu)?;
/// let why = AttentionGradients { patterns: vec![pattern], gradients: vec![gradient] };
/// assert_eq!(gradient_rollout(&why, &Rollout::default())?.to_vec3::<f64>()?, [[[0.5, 0.5], [0.0, 1.0]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn gradient_rollout(why: &AttentionGradients, options: &Rollout) -> Result<Tensor> {
    let weighed = why.weigh(&bidirectional(&why.patterns)?)?;
    product(&mixed(options.layers(&weighed)?, options)?)
}

/// → `(b,t,t)`: R = I, then R ← R + E_h[(∂f/∂A ∘ A)⁺]·R from the first layer to the last (Chefer et al. 2021, eqs. 5 and 6).
///
/// That is the product of I + E_h[(∂f/∂A ∘ A)⁺], the last layer on the left. Row i says what position i took from each
/// token; the diagonal says mostly that it kept itself, and is left out of pictures: of a class token's row, the tokens.
///
/// Errors: patterns whose rows do not sum to one; gradients that are not of their shapes.
///
/// **When it misleads**: it is positive only, so tokens that speak against the class cannot be told from those without a
/// say. The scale is the gradient's, so compare within a map. Early tokens of a decoder are favoured, as by every product of
/// causal maps, though the gradients dampen it.
///
/// ```
/// # use pellucid::prelude::*;
/// let pattern = Tensor::new(&[[[[0.5f64, 0.5], [0.5, 0.5]]]], &Device::Cpu)?;
/// let gradient = Tensor::new(&[[[[0.0f64, 2.0], [-2.0, 0.0]]]], &Device::Cpu)?;
/// let why = AttentionGradients { patterns: vec![pattern], gradients: vec![gradient] };
/// assert_eq!(gae(&why)?.to_vec3::<f64>()?, [[[1.0, 1.0], [0.0, 1.0]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn gae(why: &AttentionGradients) -> Result<Tensor> {
    product(&relevances(why)?)
}

/// → `(b,t,t)`: [`gae`] with every layer's rows divided by their sums before the product, as the text models of Chefer et
/// al., *Transformer Interpretability Beyond Attention Visualization*, 2021, arXiv 2012.09838, do in their code. (Their vision
/// models do not; and what they weigh with the gradient is a propagated relevance, here it is the pattern.)
///
/// Rows sum to one, so maps of different depth or confidence can be laid side by side.
///
/// Errors and caveats: those of [`gae`], but for the scale; where gradients are small, all rows are nearly I's.
///
/// ```
/// # use pellucid::prelude::*;
/// let pattern = Tensor::new(&[[[[0.5f64, 0.5], [0.5, 0.5]]]], &Device::Cpu)?;
/// let gradient = Tensor::new(&[[[[0.0f64, 2.0], [-2.0, 0.0]]]], &Device::Cpu)?;
/// let why = AttentionGradients { patterns: vec![pattern], gradients: vec![gradient] };
/// assert_eq!(gae_normalised(&why)?.to_vec3::<f64>()?, [[[0.5, 0.5], [0.0, 1.0]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn gae_normalised(why: &AttentionGradients) -> Result<Tensor> {
    product(&relevances(why)?.iter().map(rows_to_one).collect::<Result<Vec<_>>>()?)
}

/// I + E_h[(∂f/∂A ∘ A)⁺] of every layer, `(b,t,t)`.
fn relevances(why: &AttentionGradients) -> Result<Vec<Tensor>> {
    let relevance = |weighed: &Tensor| {
        let positive = mean(&weighed.relu()?)?;
        Ok(positive.broadcast_add(&identity(&positive)?)?)
    };
    why.weigh(&patterns(&why.patterns)?)?.iter().map(relevance).collect()
}
