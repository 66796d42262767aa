//! What a block is: a forward, the vector–Jacobian product beside it, and the same thing from candle's operations.

use std::ops::{Deref, Range};
use std::sync::Arc;

use candle_core::{Device, Storage, StorageRef, Tensor};
use gemm::Parallelism;

use super::matrix::Real;
use super::{Activation, Attention, LayerNorm, Linear};
use crate::model::hook::Site;
use crate::{Error, Result};

/// Row-major numbers: `examples · tokens` rows of `channels`.
pub(crate) type Rows<T> = Vec<T>;

/// What a block must know of its input besides the numbers.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub examples: usize,
    pub tokens: usize,
    pub channels: usize,
    /// Which tokens may be attended to; all of them if `None`.
    pub key_mask: Option<Arc<[bool]>>,
    /// How a matrix product may spread over cores.
    pub threads: Parallelism,
}

impl Shape {
    pub fn rows(&self) -> usize {
        self.examples * self.tokens
    }

    /// The mask as a `(t,)` tensor to add to scores: 0 for seen keys, −∞ for hidden ones.
    pub fn hidden_keys(&self, like: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let Some(mask) = &self.key_mask else { return Ok(None) };
        let hide: Vec<f64> = mask.iter().map(|&seen| if seen { 0.0 } else { f64::NEG_INFINITY }).collect();
        Tensor::from_vec(hide, self.tokens, &Device::Cpu)?.to_device(like.device())?.to_dtype(like.dtype()).map(Some)
    }
}

/// One differentiable step. `forward` also returns what `backward` needs: its own input, or nothing.
pub(crate) trait Block {
    /// x → (y, what to keep).
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Rows<T>)>;

    /// (kept, ȳ) → x̄. `shape` is that of x.
    fn backward<T: Real>(&self, kept: &[T], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>>;

    /// The same y, from candle's differentiable operations.
    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor>;

    /// Channels out, given channels in; an error if the block takes another number of them.
    fn width(&self, channels: usize) -> Result<usize> {
        Ok(channels)
    }
}

/// One element of a [`Chain`](super::Chain).
#[derive(Clone, Debug)]
pub enum Stage {
    /// y = x·Wᵀ + b.
    Linear(Linear),
    /// Layer normalisation.
    LayerNorm(LayerNorm),
    /// Softmax attention; its pattern passes the site.
    Attention(Attention, Site),
    /// An element-wise activation.
    Activation(Activation),
    /// y = x + stages(x).
    Residual(Vec<Stage>),
    /// A named place where a hook may look or change: the identity unless one does.
    At(Site),
}

impl Stage {
    /// Every site inside this stage.
    pub(crate) fn sites(&self) -> Vec<Site> {
        match self {
            Self::At(site) | Self::Attention(_, site) => vec![*site],
            Self::Residual(stages) => stages.iter().flat_map(Stage::sites).collect(),
            _ => Vec::new(),
        }
    }

    /// Channels out, given channels in; an error if they do not fit.
    pub(crate) fn width(&self, channels: usize) -> Result<usize> {
        match self {
            Self::Linear(block) => block.width(channels),
            Self::LayerNorm(block) => block.width(channels),
            Self::Attention(block, _) => block.width(channels),
            Self::Activation(_) | Self::At(_) => Ok(channels),
            Self::Residual(stages) => {
                let width = widths(stages, channels)?.1;
                let wrong =
                    || Error::shape("what a residual adds", format!("(n, t, {channels}), its input's"), &[width]);
                if width == channels { Ok(channels) } else { Err(wrong()) }
            }
        }
    }
}

/// Channels into each of the stages, and out of the last.
pub(crate) fn widths(stages: &[Stage], channels: usize) -> Result<(Vec<usize>, usize)> {
    let mut out = channels;
    let mut into = Vec::with_capacity(stages.len());
    for stage in stages {
        into.push(out);
        out = stage.width(out)?;
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
