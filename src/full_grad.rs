//! FullGrad and its sums over layers: gradient × input, and the biases' relevance beside it.
//!
//! Srinivas & Fleuret, *Full-Gradient Representation for Neural Network Visualization*, 2019, arXiv 1905.00780; over the
//! layers of transformers: Mehri et al., *SkipPLUS*, 2024, and *LibraGrad*, 2025, arXiv 2411.16760.

use candle_core::Tensor;

use crate::Result;
use crate::attribution::Attribution;
use crate::layer_gradients::LayerGradients;

/// → `(t,)`: FullGrad, Σ_c x₀·x̄₀ + Σ b·ȳ for every token (arXiv 1905.00780), x₀ being what the first block reads and y
/// what a bias b is added to.
///
/// What is added when tokens have become one vector, as a classifier's bias is, belongs to no token and stands in
/// [`Completeness::unattributed`](crate::Completeness::unattributed). A net without biases has gradient × input.
///
/// The law, Σ scores + unattributed = f(x), holds under rules that balance every product
/// ([`Rules::libragrad`](crate::model::Rules::libragrad)); under the exact gradient it fails, and by how much is said.
///
/// Errors: more than one example.
///
/// **When it misleads**: one gradient at the first layer is noisy where the network is deep; [`full_grad_plus`] averages over
/// layers. A sum that is right says nothing about its parts.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?.under(Rules::libragrad());
/// let text = bert.read("I absolutely loved the movie!")?;
/// let x = bert.embed(&text)?.unsqueeze(0)?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let layers = layer_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
/// let why = full_grad(&layers)?.over(&text)?.words()?;
/// assert!(why.completeness.unwrap().relative_gap < 1e-3);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn full_grad(why: &LayerGradients) -> Result<Attribution> {
    let scores = why.scored("FullGrad", &why.relevance_from(0)?)?;
    let law = why.completeness(&scores.scores, 0)?;
    Ok(Attribution { completeness: Some(law), ..scores })
}

/// → `(t,)`: FullGrad+, Σ_l Σ_c x_l·x̄_l over what every block reads, and every bias once (arXiv 2411.16760, §2).
///
/// It ranks; it has no law of its own, for each layer's sum is the output less other biases: see
/// [`full_grad_plus_normalised`].
///
/// Errors: more than one example.
///
/// **When it misleads**: the inputs of late layers have mixed what tokens say, so a late layer's token is not the word that
/// stood there. In a causal model, relevance of late layers gathers at the last token.
///
/// ```
/// # use pellucid::prelude::*;
/// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?.under(Rules::libragrad());
/// # let text = bert.read("I absolutely loved the movie!")?;
/// # let x = bert.embed(&text)?.unsqueeze(0)?;
/// # let positive = Target::Logit(bert.label("positive")?);
/// # let layers = layer_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
/// assert_eq!(full_grad_plus(&layers)?.scores.len(), text.len());
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn full_grad_plus(why: &LayerGradients) -> Result<Attribution> {
    summed("FullGrad+", why, 0)
}

/// → `(t,)`: SkipPLUS, the sum of [`full_grad_plus`] over the second half of the layers, from L/2 on, and their biases.
///
/// Errors and caveats: those of [`full_grad_plus`], more so.
///
/// ```
/// # use pellucid::prelude::*;
/// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?.under(Rules::libragrad());
/// # let text = bert.read("I absolutely loved the movie!")?;
/// # let x = bert.embed(&text)?.unsqueeze(0)?;
/// # let positive = Target::Logit(bert.label("positive")?);
/// # let layers = layer_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
/// assert_eq!(skip_plus(&layers)?.scores.len(), text.len());
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn skip_plus(why: &LayerGradients) -> Result<Attribution> {
    summed("SkipPLUS", why, why.layers() / 2)
}

fn summed(method: &str, why: &LayerGradients, from: usize) -> Result<Attribution> {
    let layers = (from..why.layers()).map(|layer| why.relevance(layer)).collect::<Result<Vec<_>>>()?;
    why.scored(method, &(total(&layers)? + why.biases_from(from)?)?)
}

/// → `(t,)`: FullGrad+ that keeps the law: the mean over layers l of Σ_c x_l·x̄_l and the biases from there on,
/// (1/L)·Σ_l FullGrad at l.
///
/// Σ scores + unattributed = f(x), under rules that balance every product. Without biases it is the mean of gradient ×
/// input over layers.
///
/// Errors and caveats: those of [`full_grad_plus`].
///
/// ```
/// # use pellucid::prelude::*;
/// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?.under(Rules::libragrad());
/// # let text = bert.read("I absolutely loved the movie!")?;
/// # let x = bert.embed(&text)?.unsqueeze(0)?;
/// # let positive = Target::Logit(bert.label("positive")?);
/// # let layers = layer_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
/// assert!(full_grad_plus_normalised(&layers)?.completeness.unwrap().relative_gap < 1e-3);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn full_grad_plus_normalised(why: &LayerGradients) -> Result<Attribution> {
    let layers = 0..why.layers();
    let maps = layers.clone().map(|layer| why.relevance_from(layer)).collect::<Result<Vec<_>>>()?;
    let share = 1.0 / maps.len() as f64;
    let scores = why.scored("FullGrad+, normalised", &(total(&maps)? * share)?)?;
    let unattributed = layers.map(|layer| why.unattributed_from(layer)).sum::<Result<f64>>()? * share;
    let law = why.law(&scores.scores, unattributed)?;
    Ok(Attribution { completeness: Some(law), ..scores })
}

/// Σ of tensors of one shape.
fn total(maps: &[Tensor]) -> Result<Tensor> {
    Ok(Tensor::stack(maps, 0)?.sum(0)?)
}
