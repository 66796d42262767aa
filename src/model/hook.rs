//! Named places in a forward pass, and what may happen there.
//!
//! ```
//! # use pellucid::prelude::*;
//! let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
//! let text = bert.read("I absolutely loved the movie!")?;
//! let x = bert.embed(&text)?.unsqueeze(0)?;
//! let mut record = Record::new(&["blocks.0.attn.pattern".parse()?, Site::ResidPost(2)]);
//! bert.logits_hooked(&text, &x, &mut record)?;
//! assert_eq!(record.get(Site::Pattern(0))?.dims(), [1, 4, text.len(), text.len()]);    // (b,h,t,t)
//! assert_eq!(record.get(Site::ResidPost(2))?.dims(), [1, text.len(), 64]);             // (b,t,c)
//! # Ok::<(), pellucid::Error>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use crate::tensor::all_finite;
use crate::{Error, Result};

/// A place in the network where the residual stream, an attention pattern or a factor before biases can be seen.
///
/// Printed and parsed as a path, `blocks.3.attn.pattern`; layers count from 0.
///
/// ```
/// # use pellucid::prelude::*;
/// let site: Site = "blocks.3.attn.pattern".parse()?;
/// assert_eq!(site, Site::Pattern(3));
/// assert_eq!((site.to_string().as_str(), site.layer()), ("blocks.3.attn.pattern", Some(3)));
/// assert!("blocks.3.attention".parse::<Site>().is_err());
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// `embed`: the sum of the embeddings, before its normalisation, `(n,t,c)`.
    Embed,
    /// `blocks.L.resid_pre`: the block's input, `(n,t,c)`.
    ResidPre(usize),
    /// `blocks.L.attn.qkv`: queries, keys and values side by side as attention reads them, `(n,t,(h+2k)·d)`.
    Qkv(usize),
    /// `blocks.L.attn.pattern`: the attention pattern, `(n,h,t,t)`, rows sum to one.
    Pattern(usize),
    /// `blocks.L.attn.z`: A·V of all heads side by side, before their projection, `(n,t,h·d)`.
    Z(usize),
    /// `blocks.L.attn.out`: what attention adds to the residual stream, `(n,t,c)`.
    AttnOut(usize),
    /// `blocks.L.resid_mid`: between attention and the feed-forward network, `(n,t,c)`.
    ResidMid(usize),
    /// `blocks.L.mlp.out`: what the feed-forward network adds, `(n,t,c)`.
    MlpOut(usize),
    /// `blocks.L.resid_post`: the block's output, `(n,t,c)`.
    ResidPost(usize),
    /// `blocks.L.attn.bias`: ones, `(n,t)`, with which every bias on the way from the block's input to `resid_mid` is multiplied.
    /// The gradient with respect to them is the biases' relevance, Σ b·ȳ for each token; where they are zero, the biases
    /// are taken away.
    AttnBias(usize),
    /// `blocks.L.attn.mix.bias`: the same within an MLP over tokens, `(n,1)`: its hidden units belong to no token.
    MixBias(usize),
    /// `blocks.L.mlp.bias`: the same on the way from `resid_mid` to the block's output, `(n,t)`.
    MlpBias(usize),
    /// `norm.bias`: the same for the norm after the last block, `(n,t)` with t the tokens that are read.
    NormBias,
    /// `head.bias`: the same for what follows when tokens have become one vector, `(n,1)`.
    HeadBias,
}

impl Site {
    /// The layer the site is in; `None` before the first and after the last.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!((Site::MlpOut(2).layer(), Site::Embed.layer()), (Some(2), None));
    /// ```
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Embed | Self::NormBias | Self::HeadBias => None,
            Self::AttnBias(l) | Self::MixBias(l) | Self::MlpBias(l) => Some(l),
            Self::ResidPre(l) | Self::Qkv(l) | Self::Pattern(l) | Self::Z(l) | Self::AttnOut(l) => Some(l),
            Self::ResidMid(l) | Self::MlpOut(l) | Self::ResidPost(l) => Some(l),
        }
    }

    /// Whether it is the place of a factor before biases.
    pub(crate) fn is_of_biases(self) -> bool {
        let per_token = matches!(self, Self::AttnBias(_) | Self::MlpBias(_) | Self::NormBias);
        per_token || self.is_of_one_factor()
    }

    /// Whether there is one factor for all tokens.
    pub(crate) fn is_of_one_factor(self) -> bool {
        matches!(self, Self::MixBias(_) | Self::HeadBias)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed => write!(f, "embed"),
            Self::ResidPre(l) => write!(f, "blocks.{l}.resid_pre"),
            Self::Qkv(l) => write!(f, "blocks.{l}.attn.qkv"),
            Self::Pattern(l) => write!(f, "blocks.{l}.attn.pattern"),
            Self::Z(l) => write!(f, "blocks.{l}.attn.z"),
            Self::AttnOut(l) => write!(f, "blocks.{l}.attn.out"),
            Self::ResidMid(l) => write!(f, "blocks.{l}.resid_mid"),
            Self::MlpOut(l) => write!(f, "blocks.{l}.mlp.out"),
            Self::ResidPost(l) => write!(f, "blocks.{l}.resid_post"),
            Self::AttnBias(l) => write!(f, "blocks.{l}.attn.bias"),
            Self::MixBias(l) => write!(f, "blocks.{l}.attn.mix.bias"),
            Self::MlpBias(l) => write!(f, "blocks.{l}.mlp.bias"),
            Self::NormBias => write!(f, "norm.bias"),
            Self::HeadBias => write!(f, "head.bias"),
        }
    }
}

impl FromStr for Site {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let unknown =
            || Error::argument(format!("no site is called `{name}`; sites look like `blocks.3.attn.pattern`"));
        let alone = [Self::Embed, Self::NormBias, Self::HeadBias];
        if let Some(site) = alone.into_iter().find(|site| site.to_string() == name) {
            return Ok(site);
        }
        let (layer, rest) = name.strip_prefix("blocks.").and_then(|n| n.split_once('.')).ok_or_else(unknown)?;
        let layer = layer.parse().map_err(|_| unknown())?;
        let kinds =
            [Self::ResidPre, Self::Qkv, Self::Pattern, Self::AttnOut, Self::ResidMid, Self::MlpOut, Self::ResidPost];
        let kinds = kinds.into_iter().chain([Self::Z, Self::AttnBias, Self::MixBias, Self::MlpBias]);
        let same = |site: &Site| site.to_string() == format!("blocks.{layer}.{rest}");
        kinds.map(|kind: fn(usize) -> Self| kind(layer)).find(same).ok_or_else(unknown)
    }
}

/// Something that happens at named places of a forward pass. The forward shows it the sites it asks for.
///
/// ```
/// # use pellucid::prelude::*;
/// /// Counts what it is shown, and changes nothing.
/// struct Count(usize);
///
/// impl Hook for Count {
///     fn sites(&self) -> Vec<Site> {
///         vec![Site::ResidPre(0), Site::ResidPre(1)]
///     }
///
///     fn at(&mut self, _: Site, x: Tensor) -> Result<Tensor> {
///         self.0 += 1;
///         Ok(x)
///     }
/// }
///
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I loved it.")?;
/// let mut count = Count(0);
/// bert.logits_hooked(&text, &bert.embed(&text)?.unsqueeze(0)?, &mut count)?;
/// assert_eq!(count.0, 2);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub trait Hook {
    /// The sites to be shown. Sites nobody wants stay inside fused kernels; one that the network does not have is an error, but for
    /// factors before biases, of which there may be none.
    fn sites(&self) -> Vec<Site>;

    /// Sees the tensor at a wanted site, and returns what the network goes on with, of the same shape and precision.
    fn at(&mut self, site: Site, x: Tensor) -> Result<Tensor>;
}

/// Errors if a hook wants to see a layer that does not exist, or a place that a network of these sites does not have.
pub(crate) fn check_sites(hook: &dyn Hook, sites: impl Iterator<Item = Site>) -> Result<()> {
    let sites: BTreeSet<Site> = sites.collect();
    let layers = sites.iter().filter_map(|site| site.layer()).max().map_or(0, |last| last + 1);
    let wanted = hook.sites();
    if let Some(layer) = wanted.iter().filter_map(|site| site.layer()).find(|layer| *layer >= layers) {
        return Err(Error::out_of_range("layer", layer, layers));
    }
    match wanted.into_iter().find(|site| !site.is_of_biases() && !sites.contains(site)) {
        Some(site) => Err(missing(site, &sites)),
        None => Ok(()),
    }
}

fn missing(site: Site, sites: &BTreeSet<Site>) -> Error {
    let alike = sites.iter().filter(|other| other.layer() == site.layer() && !other.is_of_biases());
    let alike: Vec<String> = alike.map(|site| format!("`{site}`")).collect();
    Error::argument(format!("this network has no `{site}`; there is {}", alike.join(", ")))
}

/// What the network goes on with at a site that a hook wants to see.
///
/// Errors: the hook's own; it returns another shape or precision.
pub(crate) fn shown(hook: &mut dyn Hook, site: Site, x: Tensor) -> Result<Tensor> {
    let (dims, dtype) = (x.dims().to_vec(), x.dtype());
    let y = hook.at(site, x)?;
    if y.dims() != dims {
        return Err(Error::shape(format!("what a hook returns at `{site}`"), format!("{dims:?}"), y.dims()));
    }
    match y.dtype() == dtype {
        true => Ok(y),
        false => Err(Error::argument(format!(
            "what a hook returns at `{site}` holds {:?} numbers, expected {dtype:?}: use `.to_dtype(x.dtype())`",
            y.dtype()
        ))),
    }
}

/// Sees nothing, changes nothing.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I loved it.")?;
/// let x = bert.embed(&text)?.unsqueeze(0)?;
/// let gap = (bert.logits_hooked(&text, &x, &mut Clear)? - bert.logits(&text, &x)?)?.abs()?.max_all()?;
/// assert!(gap.to_scalar::<f32>()? < 1e-5);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Clear;

impl Hook for Clear {
    fn sites(&self) -> Vec<Site> {
        Vec::new()
    }

    fn at(&mut self, _: Site, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }
}

/// Keeps the tensors at its sites, detached from the graph.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let mut record = Record::new(&[Site::Pattern(0), Site::ResidMid(1)]);
/// bert.logits_hooked(&text, &bert.embed(&text)?.unsqueeze(0)?, &mut record)?;
/// let row = record.get(Site::Pattern(0))?.i((0, 0, 0))?.sum_all()?.to_scalar::<f32>()?;
/// assert!((row - 1.0).abs() < 1e-5);    // where [CLS] looks
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Record {
    seen: BTreeMap<Site, Option<Tensor>>,
}

impl Record {
    /// Records these sites.
    pub fn new(sites: &[Site]) -> Self {
        Self { seen: sites.iter().map(|site| (*site, None)).collect() }
    }

    /// Records a kind of site in the layers `0..layers`.
    pub(crate) fn of_layers(kind: fn(usize) -> Site, layers: usize) -> Self {
        Self::new(&(0..layers).map(kind).collect::<Vec<_>>())
    }

    /// What was seen at every site, layer by layer.
    pub(crate) fn all(&self) -> Result<Vec<Tensor>> {
        self.seen.keys().map(|site| self.get(*site).cloned()).collect()
    }

    /// What was seen at a site.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let record = Record::new(&[Site::Pattern(0)]);
    /// assert!(record.get(Site::Pattern(0)).unwrap_err().to_string().contains("run a forward pass first"));
    /// ```
    pub fn get(&self, site: Site) -> Result<&Tensor> {
        self.seen.get(&site).and_then(Option::as_ref).ok_or_else(|| unseen(site))
    }
}

impl Hook for Record {
    fn sites(&self) -> Vec<Site> {
        self.seen.keys().copied().collect()
    }

    fn at(&mut self, site: Site, x: Tensor) -> Result<Tensor> {
        self.seen.insert(site, Some(x.detach()));
        Ok(x)
    }
}

/// Makes gradients at its sites readable: it adds a zero `Var` there, whose gradient is the site's.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let mut tap = Tap::new(&[Site::Pattern(2)]);
/// let logits = bert.logits_hooked(&text, &bert.embed(&text)?.unsqueeze(0)?, &mut tap)?;
/// let grads = Target::Logit(bert.label("positive")?).of(&logits)?.sum_all()?.backward()?;
/// assert_eq!(tap.grad(&grads, Site::Pattern(2))?.dims(), [1, 4, text.len(), text.len()]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Tap {
    taps: BTreeMap<Site, Option<Var>>,
}

impl Tap {
    /// Taps these sites.
    pub fn new(sites: &[Site]) -> Self {
        Self { taps: sites.iter().map(|site| (*site, None)).collect() }
    }

    /// The gradient that reached a site, of the shape the site has.
    ///
    /// Errors: nothing was seen there; the output does not depend on it; a gradient that is not finite.
    pub fn grad(&self, grads: &GradStore, site: Site) -> Result<Tensor> {
        let tap = self.taps.get(&site).and_then(Option::as_ref).ok_or_else(|| unseen(site))?;
        let gradient = grads.get(tap).map(Tensor::detach).ok_or(Error::GraphCut)?;
        all_finite(&format!("the gradient at `{site}`"), &gradient)?;
        Ok(gradient)
    }
}

impl Hook for Tap {
    fn sites(&self) -> Vec<Site> {
        self.taps.keys().copied().collect()
    }

    fn at(&mut self, site: Site, x: Tensor) -> Result<Tensor> {
        let zero = Var::from_tensor(&x.zeros_like()?)?;
        let tapped = (x + zero.as_tensor())?;
        self.taps.insert(site, Some(zero));
        Ok(tapped)
    }
}

/// Keeps what is seen at its sites, and makes the gradient there readable.
#[derive(Debug)]
pub(crate) struct Watch {
    pub record: Record,
    pub tap: Tap,
}

impl Watch {
    pub fn new(sites: &[Site]) -> Self {
        Self { record: Record::new(sites), tap: Tap::new(sites) }
    }
}

impl Hook for Watch {
    fn sites(&self) -> Vec<Site> {
        self.tap.sites()
    }

    fn at(&mut self, site: Site, x: Tensor) -> Result<Tensor> {
        self.tap.at(site, self.record.at(site, x)?)
    }
}

/// Replaces the tensor at one site: ablation, patching, steering.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let x = bert.embed(&text)?.unsqueeze(0)?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let says = |edit: &mut Edit| -> Result<f32> {
///     Ok(positive.of(&bert.logits_hooked(&text, &x, edit)?)?.to_vec1::<f32>()?[0])
/// };
/// let whole = says(&mut Edit::new(Site::Z(0), Ok))?;    // leaves all as it is
/// let without_head_0 = says(&mut Edit::new(Site::Z(0), |z| {
///     let (n, t, c) = z.dims3()?;                       // four heads side by side
///     Ok(z.slice_assign(&[0..n, 0..t, 0..c / 4], &z.narrow(2, 0, c / 4)?.zeros_like()?)?)
/// }))?;
/// assert_ne!(whole, without_head_0);
/// assert_ne!(whole, says(&mut Edit::ablate(Site::AttnOut(0)))?);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub struct Edit {
    site: Site,
    change: Box<dyn FnMut(Tensor) -> Result<Tensor>>,
}

impl Edit {
    /// At `site`, the network goes on with `change(x)`, which has x's shape.
    pub fn new(site: Site, change: impl FnMut(Tensor) -> Result<Tensor> + 'static) -> Self {
        Self { site, change: Box::new(change) }
    }

    /// At `site`, the network goes on with zeros.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I absolutely loved the movie!")?;
    /// let x = bert.embed(&text)?.unsqueeze(0)?;
    /// let logits = bert.logits_hooked(&text, &x, &mut Edit::ablate(Site::ResidPost(2)))?;    // nothing reaches the head
    /// let other = bert.logits_hooked(&text, &x.zeros_like()?, &mut Edit::ablate(Site::ResidPost(2)))?;
    /// assert_eq!(logits.to_vec2::<f32>()?, other.to_vec2::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn ablate(site: Site) -> Self {
        Self::new(site, |x| Ok(x.zeros_like()?))
    }

    /// At `site`, the network goes on with a tensor recorded elsewhere.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let [glad, sad] = [bert.read("I loved the movie!")?, bert.read("I hated the movie!")?];
    /// let x = |text: &Text| -> Result<Tensor> { Ok(bert.embed(text)?.unsqueeze(0)?) };
    /// let mut record = Record::new(&[Site::ResidPost(1)]);
    /// let wanted = bert.logits_hooked(&glad, &x(&glad)?, &mut record)?;
    /// let mut patch = Edit::patch(Site::ResidPost(1), record.get(Site::ResidPost(1))?.clone());
    /// let patched = bert.logits_hooked(&sad, &x(&sad)?, &mut patch)?;
    /// assert_eq!(patched.to_vec2::<f32>()?, wanted.to_vec2::<f32>()?);    // all that follows is the other's
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn patch(site: Site, with: Tensor) -> Self {
        Self::new(site, move |x| Ok(with.broadcast_as(x.shape())?.contiguous()?))
    }
}

impl Hook for Edit {
    fn sites(&self) -> Vec<Site> {
        vec![self.site]
    }

    fn at(&mut self, _: Site, x: Tensor) -> Result<Tensor> {
        (self.change)(x)
    }
}

fn unseen(site: Site) -> Error {
    Error::argument(format!(
        "nothing was seen at `{site}`: ask for it when making the hook, and run a forward pass first"
    ))
}
