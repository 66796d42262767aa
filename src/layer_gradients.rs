//! What every layer of a model reads, the gradient of a number with respect to it, and what the biases add.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{D, Tensor, Var};

use crate::attribution::{Attribution, Completeness};
use crate::grad::gradients_of;
use crate::model::hook::{Hook, Site};
use crate::tensor::{numbers, wide};
use crate::{Error, Result, kernel};

/// What every layer of a model reads, the gradient of a number with respect to it, and the relevance of its biases.
///
/// Under [`Rules::libragrad`](crate::model::Rules::libragrad) Σ x·x̄ of what any layer reads, and the relevance of all biases
/// from there on, sum to the number that is explained; [`balance`](Self::balance) says by how much they miss it.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?.under(Rules::libragrad());
/// let text = bert.read("I absolutely loved the movie!")?;
/// let x = bert.embed(&text)?.unsqueeze(0)?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let why = layer_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
/// assert_eq!((why.layers(), why.inputs.len()), (3, 4));     // and what the last one leaves
/// assert_eq!(why.relevance(2)?.dims(), [1, text.len()]);    // (b,t)
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerGradients {
    /// The number that is explained, `(b,)`.
    pub output: Tensor,
    /// What each of L blocks reads, and what the last one leaves, L + 1 × `(b,t,c)`.
    pub inputs: Vec<Tensor>,
    /// The gradient with respect to each of these.
    pub gradients: Vec<Tensor>,
    /// Σ b·ȳ over the biases b of each block, and of the norm after the last, at the tokens they are added to, L + 1 ×
    /// `(b,t)`.
    pub biases: Vec<Tensor>,
    /// The same of biases that are no token's: those within an MLP over tokens, and those of a head that reads what
    /// tokens have become, L + 1 × `(b,)`.
    pub unattributed: Vec<Tensor>,
}

/// `f: Hook → (b,)` → what each of a model's first `layers` layers (all of them: `bert.layers()`) reads, with the gradients
/// and the relevance of biases.
///
/// f runs a model with the hook it is given, and returns one number per example: the logit to explain. One forward and
/// one walk back serve all layers, by whatever rules the model is [`under`](crate::model::Bert::under). The relevance of a
/// bias is b·ȳ, the gradient with respect to a factor before it (Srinivas & Fleuret 2019, arXiv 1905.00780).
///
/// Errors: f does not return one finite number per example; the model has fewer layers; no differentiable path leads
/// from what a layer reads to f ([`Error::GraphCut`]).
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?.under(Rules::libragrad());
/// let text = bert.read("I absolutely loved the movie!")?;
/// let x = bert.embed(&text)?.unsqueeze(0)?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let why = layer_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
/// assert!(why.balance()?.iter().all(|layer| layer.relative_gap < 1e-3));
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn layer_gradients(f: impl Fn(&mut dyn Hook) -> Result<Tensor>, layers: usize) -> Result<LayerGradients> {
    kernel::guard()?;
    let mut watch = Watch::of(layers)?;
    let y = f(&mut watch)?;
    let (b, t) = watch.size(layers)?;
    let grads = gradients_of(&y, b)?;
    let read: Vec<Site> = (0..layers).map(Site::ResidPre).chain([Site::ResidPost(layers - 1)]).collect();
    let of_block = |l: usize| if l < layers { vec![Site::AttnBias(l), Site::MlpBias(l)] } else { vec![Site::NormBias] };
    let of_none = |l: usize| if l < layers { Site::MixBias(l) } else { Site::HeadBias };
    Ok(LayerGradients {
        output: y.detach(),
        inputs: read.iter().map(|site| watch.seen(*site)).collect::<Result<_>>()?,
        gradients: read.iter().map(|site| watch.gradient(*site, &grads)).collect::<Result<_>>()?,
        biases: (0..=layers).map(|l| watch.relevance(&of_block(l), &grads, (b, t))).collect::<Result<_>>()?,
        unattributed: (0..=layers)
            .map(|l| Ok(watch.relevance(&[of_none(l)], &grads, (b, 1))?.squeeze(1)?))
            .collect::<Result<_>>()?,
    })
}

/// What was seen at each site, and the zero that was added there; a site may be passed several times.
struct Watch(BTreeMap<Site, Vec<(Tensor, Var)>>);

impl Watch {
    fn of(layers: usize) -> Result<Self> {
        let last = layers.checked_sub(1).ok_or_else(|| Error::argument("there must be at least one layer"))?;
        let within = |l| [Site::ResidPre(l), Site::AttnBias(l), Site::MixBias(l), Site::MlpBias(l)];
        let sites = (0..layers).flat_map(within).chain([Site::ResidPost(last), Site::NormBias, Site::HeadBias]);
        Ok(Self(sites.map(|site| (site, Vec::new())).collect()))
    }

    /// Examples and tokens.
    fn size(&self, layers: usize) -> Result<(usize, usize)> {
        let (b, t, _) = self.seen(Site::ResidPre(layers - 1))?.dims3()?;
        Ok((b, t))
    }

    fn first(&self, site: Site) -> Result<&(Tensor, Var)> {
        let unseen =
            || Error::argument(format!("the function never passed `{site}`: run the model with the hook it is given"));
        self.0.get(&site).and_then(|seen| seen.first()).ok_or_else(unseen)
    }

    fn seen(&self, site: Site) -> Result<Tensor> {
        Ok(self.first(site)?.0.clone())
    }

    fn gradient(&self, site: Site, grads: &GradStore) -> Result<Tensor> {
        grads.get(&self.first(site)?.1).map(Tensor::detach).ok_or(Error::GraphCut)
    }

    /// Σ over sites of the gradient with respect to the factors there, which are the first of `(b,t)`; none where there are
    /// no biases.
    fn relevance(&self, sites: &[Site], grads: &GradStore, (b, t): (usize, usize)) -> Result<Tensor> {
        let like = &self.0.values().flatten().next().ok_or_else(|| Error::argument("nothing was seen"))?.0;
        let none = Tensor::zeros((b, t), wide(like), like.device())?;
        let factors = sites.iter().filter_map(|site| self.0.get(site)).flatten();
        factors.filter_map(|(_, factor)| grads.get(factor)).try_fold(none, |sum, gradient| {
            let all = gradient.detach().to_dtype(sum.dtype())?.pad_with_zeros(1, 0, t - gradient.dim(1)?)?;
            Ok((sum + all)?)
        })
    }
}

impl Hook for Watch {
    fn sites(&self) -> Vec<Site> {
        self.0.keys().copied().collect()
    }

    fn at(&mut self, site: Site, x: Tensor) -> Result<Tensor> {
        let zero = Var::from_tensor(&x.zeros_like()?)?;
        let tapped = (&x + zero.as_tensor())?;
        self.0.entry(site).or_default().push((x.detach(), zero));
        Ok(tapped)
    }
}

/// What is there of a layer and all after it.
fn from(layers: &[Tensor], layer: usize) -> Result<&[Tensor]> {
    let some = layers.get(layer..).filter(|some| !some.is_empty());
    some.ok_or_else(|| Error::out_of_range("layer", layer, layers.len()))
}

impl LayerGradients {
    /// How many blocks there are.
    pub fn layers(&self) -> usize {
        self.inputs.len().saturating_sub(1)
    }

    /// Σ_c x·x̄ of what a layer reads, `(b,t)`: gradient × input. Layer L is what the last block leaves.
    ///
    /// Errors: there is no such layer.
    pub fn relevance(&self, layer: usize) -> Result<Tensor> {
        let missing = || Error::out_of_range("layer", layer, self.inputs.len());
        let (x, g) = self.inputs.get(layer).zip(self.gradients.get(layer)).ok_or_else(missing)?;
        Ok((x.to_dtype(wide(x))? * g.to_dtype(wide(g))?)?.sum(D::Minus1)?)
    }

    /// Whether each layer's relevance and that of all biases from there on sum to the output: the law that LibraGrad keeps at
    /// every layer (arXiv 2411.16760, §3), L + 1 of them.
    ///
    /// Where a model pools what the last block leaves before it reads it, the last says the same.
    ///
    /// Errors: more than one example.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// # let text = bert.read("I absolutely loved the movie!")?;
    /// # let x = bert.embed(&text)?.unsqueeze(0)?;
    /// # let positive = Target::Logit(bert.label("positive")?);
    /// let worst = |rules: Rules| -> Result<f64> {
    ///     let bert = bert.under(rules);
    ///     let why = layer_gradients(|hook| positive.of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
    ///     Ok(why.balance()?.iter().map(|layer| layer.relative_gap).fold(0.0, f64::max))
    /// };
    /// assert!(worst(Rules::libragrad())? < 1e-3 && worst(Rules::exact())? > 0.1);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn balance(&self) -> Result<Vec<Completeness>> {
        (0..=self.layers()).map(|layer| self.completeness(&self.tokens(&self.relevance_from(layer)?)?, layer)).collect()
    }

    /// Relevance of what a layer reads and of the tokens' biases from there on, `(b,t)`.
    pub(crate) fn relevance_from(&self, layer: usize) -> Result<Tensor> {
        Ok((self.biases_from(layer)? + self.relevance(layer)?)?)
    }

    /// Relevance of the tokens' biases from a layer on, `(b,t)`.
    pub(crate) fn biases_from(&self, layer: usize) -> Result<Tensor> {
        Ok(Tensor::stack(from(&self.biases, layer)?, 0)?.sum(0)?)
    }

    /// Relevance from a layer on that is no token's.
    pub(crate) fn unattributed_from(&self, layer: usize) -> Result<f64> {
        Ok(from(&self.unattributed, layer)?.iter().map(numbers).collect::<Result<Vec<_>>>()?.concat().iter().sum())
    }

    /// `(1,t)` → the tokens' numbers.
    ///
    /// Errors: more than one example.
    pub(crate) fn tokens(&self, scores: &Tensor) -> Result<Vec<f64>> {
        match scores.dims() {
            [1, _] => numbers(scores),
            other => Err(Error::shape("the scores", "(1, t): explain one example at a time", other)),
        }
    }

    /// Scores of the tokens, `(1,t)`, by a method without a law.
    pub(crate) fn scored(&self, method: &str, scores: &Tensor) -> Result<Attribution> {
        let scores = self.tokens(scores)?;
        Attribution::of_elements(method, &[scores.len()], scores)
    }

    /// The law of scores that are to sum to the output, with what is no token's from a layer on.
    pub(crate) fn completeness(&self, scores: &[f64], layer: usize) -> Result<Completeness> {
        self.law(scores, self.unattributed_from(layer)?)
    }

    /// The same with so much that is no token's.
    pub(crate) fn law(&self, scores: &[f64], unattributed: f64) -> Result<Completeness> {
        let output = numbers(&self.output)?.iter().sum();
        Ok(Completeness::of_sum(output, scores, unattributed, self.output.dtype()))
    }
}
