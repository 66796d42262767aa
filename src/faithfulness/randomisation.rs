//! Whether explanations depend on what a model has learnt.
//!
//! Adebayo et al., *Sanity Checks for Saliency Maps*, 2018, arXiv 1810.03292, §3.

use serde::{Deserialize, Serialize};

use crate::attribution::Attribution;
use crate::model::Load;
use crate::progress::Progress;
use crate::{Error, Result};

/// How alike explanations stay while a model forgets, layer by layer from the head down.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::cascading_randomisation;
/// let explain = |load: &Load| {
///     let bert = Bert::load_with("pellucid/tiny-bert-sentiment", load)?;
///     let text = bert.read("I absolutely loved the movie!")?;
///     Ok(vec![Attribution::of_tokens("attention", &bert.attention(&text)?[0].i((0, 0, 0))?, &text)?])
/// };
/// let alike = cascading_randomisation(explain, 3, 0)?;    // head, blocks.2, blocks.1, …
/// assert!(alike.correlations[2][0] > 0.99);               // the first layer is as it was
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Randomisation {
    /// What was randomised down to: `head`, `blocks.3`, …, `blocks.0`, `everything`.
    pub steps: Vec<String>,
    /// Of every step, Spearman's rank correlation of each example's explanation with that of the trained model.
    pub correlations: Vec<Vec<f64>>,
}

/// A method as a function of how a model of `blocks` blocks is loaded, which explains some examples → the rank correlations with
/// the trained model's explanations, while the weights of the head are shuffled, then those of the last block too, and so on, and
/// at last all («cascading randomization», arXiv 1810.03292, §3).
///
/// `blocks` are all that the model has, its `layers()`: with fewer, those left over go with the head. Weights are shuffled within
/// their tensors ([`Load::shuffled_from`]), so that their sizes stay. Embeddings that serve as the head too count as embeddings. A
/// method that explains the model falls to 0; one that stays near 1 shows the input.
///
/// Errors: those of the loader, which refuses more blocks than there are, and of the method; explanations of other examples;
/// scores of an example that are all the same.
///
/// **When it misleads**: ranks with their signs are compared, and a shuffled model may say the opposite; the target, a class, is
/// one that the shuffled model knows nothing of. Methods that read attention alone do not see the head.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::cascading_randomisation;
/// let explain = |load: &Load| {
///     let bert = Bert::load_with("pellucid/tiny-bert-sentiment", load)?;
///     let text = bert.read("I absolutely loved the movie, but the ending was awful.")?;
///     let positive = Target::Logit(bert.label("positive")?);
///     Ok(vec![gradient_x_input(|x| positive.of(&bert.logits(&text, x)?), &bert.embed(&text)?)?.over(&text)?])
/// };
/// let alike = cascading_randomisation(explain, 2, 0)?;
/// assert_eq!(alike.steps, ["head", "blocks.1", "blocks.0", "everything"]);
/// println!("{}", alike.chart(&Bootstrap::default())?.text());
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn cascading_randomisation(
    explain: impl Fn(&Load) -> Result<Vec<Attribution>>,
    blocks: usize,
    seed: u64,
) -> Result<Randomisation> {
    let mut progress = Progress::new("randomisation, models", blocks + 3);
    let mut explained = |load: &Load| {
        let whys = explain(load);
        progress.advance(1);
        whys
    };
    let trained = explained(&Load::default())?;
    let partly = (0..=blocks).rev().map(|block| Load::shuffled_from(block, seed));
    let correlations = partly.chain([Load::shuffled(seed)]).map(|load| alike(&trained, &explained(&load)?));
    let correlations = correlations.collect::<Result<_>>()?;
    let named = (0..blocks).rev().map(|block| format!("blocks.{block}"));
    let steps = std::iter::once("head".into()).chain(named).chain(["everything".into()]).collect();
    Ok(Randomisation { steps, correlations })
}

fn alike(trained: &[Attribution], shuffled: &[Attribution]) -> Result<Vec<f64>> {
    if trained.is_empty() || trained.len() != shuffled.len() {
        let wanted = format!("({},), one per example, at least one", trained.len());
        return Err(Error::shape("the explanations", wanted, &[shuffled.len()]));
    }
    trained.iter().zip(shuffled).map(|(trained, shuffled)| trained.agreement(shuffled)).collect()
}
