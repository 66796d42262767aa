//! What a block is: a forward, the vector–Jacobian product beside it, and the same thing from candle's operations.

use std::ops::{Deref, Range};
use std::sync::Arc;

use candle_core::{Storage, StorageRef, Tensor};

use super::matrix::{Cores, Real};
use super::{Activation, Attention, Gate, HeadNorm, LayerNorm, Linear, LogProbability, RmsNorm, Rope, UnitLength};
use crate::model::hook::Site;
use crate::model::rules::Rules;
use crate::{Error, Result};

/// Row-major numbers: `examples · tokens` rows of `channels`.
pub(crate) type Rows<T> = Vec<T>;

/// What a block's backward needs.
pub(crate) type Tape<T> = Vec<Rows<T>>;

/// Where a token stands: in a text, the same number on every axis; in a picture, its row and its column on axes of their own.
pub type Position = [u32; 3];

/// What a chain must know of its tokens besides their numbers. By default they stand in a row, and see each other and nothing
/// before.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Attention, Chain, Setting, Stage};
/// let chain = Chain::new(vec![Stage::Attention(Attention::new(1)?.in_windows(), Site::Pattern(0))]);
/// let qkv = Tensor::new(&[[[0.0f64, 1.0, 10.0], [0.0, 5.0, 20.0]]], &Device::Cpu)?;    // two tokens: q, k, v of one channel
/// let alone = Setting { windows: Some([1, 1].into()), ..Setting::default() };
/// assert_eq!(chain.forward_in(&qkv, alone, &mut Clear)?.to_vec3::<f64>()?, [[[10.0], [20.0]]]);
/// assert_eq!(chain.forward_in(&qkv, Setting::default(), &mut Clear)?.to_vec3::<f64>()?, [[[15.0], [15.0]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Which tokens may be attended to; all of them if `None`.
    pub key_mask: Option<Arc<[bool]>>,
    /// What came before the first token, `(1,p,c)` at the input of attention: a constant that every example attends to.
    pub past: Option<Tensor>,
    /// Which tokens of the past each example may attend to, `(n,p)`; all of them if `None`.
    pub past_mask: Option<Arc<[bool]>>,
    /// Where every token stands, for rotary embeddings; in a row, after the past, if `None`.
    pub positions: Option<Arc<[Position]>>,
    /// How many tokens each window has, where attention stays within windows; there is but one if `None`.
    pub windows: Option<Arc<[usize]>>,
}

impl Setting {
    /// Of no tokens yet.
    fn shape(self) -> Shape {
        let Self { key_mask, past, past_mask, positions, windows } = self;
        let (cores, rules) = (Cores::All, Rules::exact());
        let (examples, tokens, channels, biases) = (0, 0, 0, None);
        Shape {
            examples,
            tokens,
            channels,
            key_mask,
            past,
            past_mask,
            positions,
            windows,
            rules,
            biases,
            cores,
            keep: false,
        }
    }

    /// For embeddings x `(n,t,c)`.
    ///
    /// Errors: another shape; not one entry per token.
    pub(crate) fn of(self, x: &Tensor) -> Result<Shape> {
        let &[examples, tokens, channels] = x.dims() else { return Err(Error::shape("x", "(n, t, c)", x.dims())) };
        if x.elem_count() == 0 {
            return Err(Error::shape("x", "(n, t, c), none of them 0", x.dims()));
        }
        let shape = Shape { examples, tokens, channels, ..self.shape() };
        let one_per_token = format!("({tokens},), one per token");
        let counts = [
            ("the mask", shape.key_mask.as_ref().map(|mask| mask.len())),
            ("the positions", shape.positions.as_ref().map(|positions| positions.len())),
            ("the tokens of all windows", shape.windows.as_ref().map(|windows| windows.iter().sum())),
        ];
        if let Some((what, count)) = counts.into_iter().find(|(_, count)| count.is_some_and(|count| count != tokens)) {
            return Err(Error::shape(what, one_per_token, &[count.unwrap_or_default()]));
        }
        if let Some(past) = shape.past.as_ref().filter(|past| past.rank() != 3 || past.dims()[0] != 1) {
            return Err(Error::shape("the past", "(1, p, c)", past.dims()));
        }
        let wanted = examples * shape.first_position();
        if let Some(mask) = shape.past_mask.as_ref().filter(|mask| mask.len() != wanted) {
            let wanted = format!("({wanted},), one per token of the past and example");
            return Err(Error::shape("the mask of the past", wanted, &[mask.len()]));
        }
        match &shape.windows {
            Some(windows) if windows.contains(&0) => Err(Error::argument("a window has at least one token")),
            Some(_) if shape.key_mask.is_some() || shape.past.is_some() => Err(Error::argument(
                "windows go with no mask and no past: tokens see all of their window, and nothing else",
            )),
            _ => Ok(shape),
        }
    }
}

/// What a block must know of its input besides the numbers.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub examples: usize,
    pub tokens: usize,
    pub channels: usize,
    /// Which tokens may be attended to; all of them if `None`.
    pub key_mask: Option<Arc<[bool]>>,
    /// What came before the first token, `(1,p,c)` at the input of attention: constants that every example attends to.
    pub past: Option<Tensor>,
    /// Which tokens of the past each example may attend to, `(n,p)`; all of them if `None`.
    pub past_mask: Option<Arc<[bool]>>,
    /// Where every token stands, for rotary embeddings; in a row, after the past, if `None`.
    pub positions: Option<Arc<[Position]>>,
    /// How many tokens each window has, where attention stays within windows; there is but one if `None`.
    pub windows: Option<Arc<[usize]>>,
    /// How the backward walks back through products.
    pub rules: Rules,
    /// What biases are multiplied with, where a hook wants to see that: `(n,t,1)`, one factor per token, or `(n,1,1)`.
    pub biases: Option<Tensor>,
    /// How many cores the work may spread over.
    pub cores: Cores,
    /// Whether a walk back may follow.
    pub keep: bool,
}

impl Shape {
    pub fn rows(&self) -> usize {
        self.examples * self.tokens
    }

    /// Which tokens of the past an example may attend to, if some may not.
    pub fn past_seen(&self, example: usize) -> Option<&[bool]> {
        let past = self.first_position();
        self.past_mask.as_ref().map(|mask| &mask[example * past..][..past])
    }

    /// The same for some of the examples.
    pub fn some(&self, examples: Range<usize>) -> Self {
        let past = self.first_position();
        let past_mask = self.past_mask.as_ref().map(|mask| mask[examples.start * past..examples.end * past].into());
        Self { examples: examples.len(), past_mask, ..self.clone() }
    }

    /// The same for work that has a core to itself.
    pub fn on_one_core(&self) -> Self {
        Self { cores: Cores::One, ..self.clone() }
    }

    /// The same numbers with tokens for channels and channels for tokens.
    pub fn transposed(&self) -> Self {
        let (examples, tokens, channels) = (self.examples, self.channels, self.tokens);
        let (rules, cores, keep) = (self.rules, self.cores, self.keep);
        Self { examples, tokens, channels, rules, cores, keep, ..Setting::default().shape() }
    }

    /// The place of the first token in the whole text.
    pub fn first_position(&self) -> usize {
        self.past.as_ref().map_or(0, |past| past.dims()[1])
    }
}

/// One differentiable step. `forward` also returns what `backward` needs, which may be less where none will follow.
pub(crate) trait Block {
    /// x → (y, what to keep).
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)>;

    /// (kept, ȳ) → x̄. `shape` is that of x.
    fn backward<T: Real>(&self, kept: &[Rows<T>], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>>;

    /// The same y, from candle's differentiable operations.
    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor>;

    /// Channels out, given channels in; an error if the block takes another number of them.
    fn width(&self, channels: usize) -> Result<usize> {
        Ok(channels)
    }
}

/// One element of a [`Chain`](super::Chain).
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, Linear, Stage};
/// let mean = Linear::new(Tensor::new(&[[0.5f64, 0.5], [0.5, 0.5]], &Device::Cpu)?, None)?;
/// let over = |stage| -> Result<Vec<Vec<f64>>> {
///     let x = Tensor::new(&[[[1.0f64, 10.0], [3.0, 20.0]]], &Device::Cpu)?;
///     Ok(Chain::new(vec![stage]).forward(&x, None, &mut Clear)?.squeeze(0)?.to_vec2()?)
/// };
/// assert_eq!(over(Stage::Linear(mean.clone()))?, [[5.5, 5.5], [11.5, 11.5]]);    // over channels
/// assert_eq!(over(Stage::Transposed(vec![Stage::Linear(mean)]))?, [[2.0, 15.0], [2.0, 15.0]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum Stage {
    /// y = x·Wᵀ + b.
    Linear(Linear),
    /// Layer normalisation.
    LayerNorm(LayerNorm),
    /// Normalisation by the root mean square.
    RmsNorm(RmsNorm),
    /// The same for every query and key head.
    HeadNorm(HeadNorm),
    /// Rotary position embeddings.
    Rope(Rope),
    /// Softmax attention; its pattern passes the site.
    Attention(Attention, Site),
    /// An element-wise activation.
    Activation(Activation),
    /// A gated activation.
    Gate(Gate),
    /// The log-probability of given tokens.
    LogProbability(LogProbability),
    /// Vectors of length one.
    UnitLength(UnitLength),
    /// y = x + stages(x).
    Residual(Vec<Stage>),
    /// y = stages(xᵀ)ᵀ: the same steps along the tokens, for every channel, as MLP-Mixer mixes them.
    Transposed(Vec<Stage>),
    /// A named place where a hook may look or change: the identity unless one does.
    At(Site),
}

/// Does the same with whichever block a stage is, and something else with stages that are none.
macro_rules! by_block {
    ($stage:expr, $block:ident => $does:expr, { $($other:pat => $otherwise:expr $(,)?)* }) => {
        match $stage {
            Stage::Linear($block) => $does,
            Stage::LayerNorm($block) => $does,
            Stage::RmsNorm($block) => $does,
            Stage::HeadNorm($block) => $does,
            Stage::Rope($block) => $does,
            Stage::Attention($block, _) => $does,
            Stage::Activation($block) => $does,
            Stage::Gate($block) => $does,
            Stage::LogProbability($block) => $does,
            Stage::UnitLength($block) => $does,
            $($other => $otherwise,)*
        }
    };
}
pub(crate) use by_block;

impl Stage {
    /// What is between a feed-forward network's two layers: a gate, where the first is twice as wide as what the second reads.
    pub(crate) fn between(wide: usize, read: usize, activation: Activation) -> Self {
        if wide == 2 * read { Self::Gate(Gate(activation)) } else { Self::Activation(activation) }
    }

    /// Every site inside this stage.
    pub(crate) fn sites(&self) -> Vec<Site> {
        match self {
            Self::At(site) | Self::Attention(_, site) => vec![*site],
            _ => self.inner().iter().flat_map(Stage::sites).collect(),
        }
    }

    /// The same for some of the tokens that attention and rotary embeddings have places for.
    pub(crate) fn keeping(&self, kept: &[bool]) -> Result<Self> {
        Ok(match self {
            Self::Rope(rope) => Self::Rope(rope.keeping(kept)),
            Self::Attention(attention, site) => Self::Attention(attention.keeping(kept)?, *site),
            Self::Residual(stages) => {
                Self::Residual(stages.iter().map(|stage| stage.keeping(kept)).collect::<Result<_>>()?)
            }
            other => other.clone(),
        })
    }

    /// The stages inside this one, if it holds any.
    fn inner(&self) -> &[Stage] {
        match self {
            Self::Residual(stages) | Self::Transposed(stages) => stages,
            _ => &[],
        }
    }

    /// The place of the factor before the biases that follow, if the stage is one.
    pub(crate) fn bias_site(&self) -> Option<Site> {
        match self {
            Self::At(site) => Some(*site).filter(|site| site.is_of_biases()),
            _ => None,
        }
    }

    /// Whether something inside has a bias.
    pub(crate) fn has_bias(&self) -> bool {
        match self {
            Self::Linear(block) => block.has_bias(),
            Self::LayerNorm(_) => true,
            _ => self.inner().iter().any(Stage::has_bias),
        }
    }

    /// The stage without its bias, and the bias; `None` for a stage that has none of its own.
    pub(crate) fn without_bias(&self) -> candle_core::Result<Option<(Self, Tensor)>> {
        match self {
            Self::Linear(block) => Ok(block.without_bias().map(|(block, bias)| (Self::Linear(block), bias))),
            Self::LayerNorm(block) => block.without_bias().map(|(block, bias)| Some((Self::LayerNorm(block), bias))),
            _ => Ok(None),
        }
    }

    /// Whether a matrix inside is packed.
    pub(crate) fn is_packed(&self) -> bool {
        match self {
            Self::Linear(block) => block.is_packed(),
            _ => self.inner().iter().any(Stage::is_packed),
        }
    }

    /// How much memory its matrices take; norms and biases are next to nothing.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Linear(block) => block.bytes(),
            _ => self.inner().iter().map(Stage::bytes).sum(),
        }
    }

    /// Channels out, given tokens and channels in; an error if they do not fit.
    pub(crate) fn width(&self, tokens: usize, channels: usize) -> Result<usize> {
        by_block!(self, block => block.width(channels), {
            Self::At(_) => Ok(channels),
            Self::Residual(stages) => {
                let width = widths(stages, tokens, channels)?.1;
                let wrong =
                    || Error::shape("what a residual adds", format!("(n, t, {channels}), its input's"), &[width]);
                if width == channels { Ok(channels) } else { Err(wrong()) }
            }
            Self::Transposed(stages) => {
                let width = widths(stages, channels, tokens)?.1;
                let wrong = || Error::shape("what is mixed along tokens", format!("(n, {tokens}, c)"), &[width]);
                if width == tokens { Ok(channels) } else { Err(wrong()) }
            }
        })
    }
}

/// Channels into each of the stages, and out of the last.
pub(crate) fn widths(stages: &[Stage], tokens: usize, channels: usize) -> Result<(Vec<usize>, usize)> {
    let mut out = channels;
    let mut into = Vec::with_capacity(stages.len());
    for stage in stages {
        into.push(out);
        out = stage.width(tokens, out)?;
    }
    Ok((into, out))
}

/// A frozen weight's numbers, borrowed.
pub(crate) struct View<'a, T> {
    storage: StorageRef<'a>,
    range: Range<usize>,
    of: std::marker::PhantomData<T>,
}

/// Borrows a contiguous CPU tensor of the kernel's own precision.
pub(crate) fn view<T: Real>(tensor: &Tensor) -> candle_core::Result<View<'_, T>> {
    let (storage, layout) = tensor.storage_and_layout();
    let (from, to) = match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(cpu), Some(offsets)) => T::cpu_storage_as_slice(cpu).map(|_| offsets)?,
        _ => candle_core::bail!("a block's weights must be contiguous and on the CPU, where its input is"),
    };
    Ok(View { storage, range: from..to, of: std::marker::PhantomData })
}

impl<T: Real> Deref for View<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &*self.storage {
            Storage::Cpu(cpu) => T::cpu_storage_as_slice(cpu).map_or(&[], |all| &all[self.range.clone()]),
            _ => &[],
        }
    }
}
