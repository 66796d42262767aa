//! Blocks one after another, as one node of candle's graph.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Tensor, WithDType};
use rayon::prelude::*;

use super::attention::Attention;
use super::matrix::Real;
use super::stage::{Block, Rows, Setting, Shape, Stage, Tape, by_block, view, widths};
use crate::model::hook::{Clear, Hook, Site, shown};
use crate::model::rules::Rules;
use crate::{Error, Result};

/// Stages applied in order, `(n,t,c) → (n,t,d)`.
///
/// On the CPU, in `f32` or `f64`, the whole chain is one operation: examples are shared out over the cores, each core runs
/// its own from end to end, and only what the backward needs is kept. Where a hook wants to see inside, and on other
/// devices, the stages run one by one.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, Linear, Stage};
/// let double = Linear::new(Tensor::new(&[[2.0f64, 0.0], [0.0, 2.0]], &Device::Cpu)?, None)?;
/// let chain = Chain::new(vec![Stage::Residual(vec![Stage::Linear(double), Stage::At(Site::MlpOut(0))])]);
/// let x = Tensor::new(&[[[1.0f64, 2.0]]], &Device::Cpu)?;
/// let mut record = Record::new(&[Site::MlpOut(0)]);
/// assert_eq!(chain.forward(&x, None, &mut record)?.to_vec3::<f64>()?, [[[3.0, 6.0]]]);
/// assert_eq!(record.get(Site::MlpOut(0))?.to_vec3::<f64>()?, [[[2.0, 4.0]]]);
/// assert_eq!(chain.composed(&x, None)?.to_vec3::<f64>()?, [[[3.0, 6.0]]]);    // by the slow road
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chain {
    stages: Arc<[Stage]>,
    rules: Rules,
}

impl Chain {
    /// The stages, first to last.
    pub fn new(stages: Vec<Stage>) -> Self {
        Self { stages: stages.into(), rules: Rules::exact() }
    }

    /// The same, and then more.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::blocks::{Chain, Linear, Stage};
    /// let double = Stage::Linear(Linear::new(Tensor::new(&[[2.0f64]], &Device::Cpu)?, None)?);
    /// let once = Chain::new(vec![double.clone()]);
    /// let twice = once.then(vec![double]);
    /// let x = Tensor::new(&[[[3.0f64]]], &Device::Cpu)?;
    /// assert_eq!(twice.forward(&x, None, &mut Clear)?.to_vec3::<f64>()?, [[[12.0]]]);
    /// assert_eq!(twice.bytes(), 2 * once.bytes());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn then(&self, more: Vec<Stage>) -> Self {
        Self { stages: self.stages.iter().cloned().chain(more).collect(), ..*self }
    }

    /// The same, walked back by these rules. Its values stay the same.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::blocks::{Activation, Chain, Stage};
    /// let exact = Chain::new(vec![Stage::Activation(Activation::Silu)]);
    /// let libra = exact.under(Rules::libragrad());
    /// let x = Tensor::new(&[[[-1.0f64, 2.0]]], &Device::Cpu)?;
    /// let run = |chain: &Chain, x: &Tensor| chain.forward(x, None, &mut Clear);
    /// assert_eq!(run(&libra, &x)?.to_vec3::<f64>()?, run(&exact, &x)?.to_vec3::<f64>()?);
    /// let slope = |chain: &Chain| grad_at(|x| Ok(run(chain, x)?.sum((1, 2))?), &x);
    /// assert_ne!(slope(&libra)?.to_vec3::<f64>()?, slope(&exact)?.to_vec3::<f64>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn under(&self, rules: Rules) -> Self {
        Self { rules, ..self.clone() }
    }

    /// The same for some of the tokens that its attention and rotary embeddings have places for.
    pub(crate) fn keeping(&self, kept: &[bool]) -> Result<Self> {
        let stages = self.stages.iter().map(|stage| stage.keeping(kept)).collect::<Result<_>>()?;
        Ok(Self { stages, ..*self })
    }

    /// The same after other stages.
    pub(crate) fn after(&self, lead: Vec<Stage>) -> Self {
        Self { stages: lead.into_iter().chain(self.stages.iter().cloned()).collect(), ..*self }
    }

    /// Every site in it.
    pub(crate) fn sites(&self) -> impl Iterator<Item = Site> {
        self.stages.iter().flat_map(Stage::sites)
    }

    /// How much memory its matrices take.
    pub fn bytes(&self) -> usize {
        self.stages.iter().map(Stage::bytes).sum()
    }

    /// `(n,t,c) → (n,t,d)`, differentiable in x. `key_mask` says which tokens may be attended to (all if `None`).
    ///
    /// Errors: x is not `(n,t,c)` with the c of the first stage; a mask of another length.
    pub fn forward(&self, x: &Tensor, key_mask: Option<&[bool]>, hook: &mut dyn Hook) -> Result<Tensor> {
        self.run(x, masked(key_mask).of(x)?, hook)
    }

    /// The same for tokens that stand in a setting: after a past, which is a constant without a gradient, at places of their
    /// own, or in windows.
    ///
    /// Errors: also a past of another width; a setting of another number of tokens.
    pub fn forward_in(&self, x: &Tensor, setting: Setting, hook: &mut dyn Hook) -> Result<Tensor> {
        let past = setting.past.as_ref().map(|past| past.detach().contiguous()).transpose()?;
        self.run(x, Setting { past, ..setting }.of(x)?, hook)
    }

    fn run(&self, x: &Tensor, shape: Shape, hook: &mut dyn Hook) -> Result<Tensor> {
        let shape = Shape { rules: self.rules, ..shape };
        let wanted = hook.sites();
        let seen = self.sites().any(|site| wanted.contains(&site));
        match seen || !has_kernels(x) {
            true => walk(&self.stages, x.clone(), &shape, hook, has_kernels(x)),
            false => fused(self.stages.clone(), x, shape),
        }
    }

    /// `(n,t,c) → (n,h,t,t)`: the pattern of its first attention. What comes after that is not worked out; no gradient.
    ///
    /// Errors: there is no attention in it; those of [`forward`](Self::forward).
    pub(crate) fn pattern(&self, x: &Tensor, key_mask: Option<&[bool]>) -> Result<Tensor> {
        let none = || Error::argument("there is no attention in this chain");
        first_pattern(&self.stages, &x.detach(), &masked(key_mask).of(x)?)?.ok_or_else(none)
    }

    /// The same from candle's differentiable operations alone: the slow road, the same on every device.
    pub fn composed(&self, x: &Tensor, key_mask: Option<&[bool]>) -> Result<Tensor> {
        self.composed_in(x, masked(key_mask))
    }

    /// The same for tokens that stand in a setting.
    pub fn composed_in(&self, x: &Tensor, setting: Setting) -> Result<Tensor> {
        let shape = Shape { rules: self.rules, ..setting.of(x)? };
        walk(&self.stages, x.clone(), &shape, &mut Clear, false)
    }
}

/// A setting in which some tokens may not be attended to.
fn masked(key_mask: Option<&[bool]>) -> Setting {
    Setting { key_mask: key_mask.map(Arc::from), ..Setting::default() }
}

/// Whether the hand-written kernels cover this device and precision.
fn has_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// The stages in order, each site shown to the hook. Between two places that it wants to see, by hand-written kernels, as one
/// operation, or by candle's operations.
fn walk(stages: &[Stage], mut x: Tensor, shape: &Shape, hook: &mut dyn Hook, kernels: bool) -> Result<Tensor> {
    let (mut rest, mut shape) = (stages, shape.clone());
    while let Some(stage) = rest.first() {
        shape.channels = x.dim(2)?;
        let unseen = rest.iter().take_while(|stage| kernels && !shows(stage, &shape, hook)).count();
        if unseen > 0 {
            x = unwatched(&rest[..unseen], x, shape.clone())?;
        } else if let Some(site) = stage.bias_site() {
            shape.biases = bias_factors(site, &x, &shape, hook)?;
        } else {
            x = watched(stage, x, &shape, hook, kernels)?;
        }
        rest = &rest[unseen.max(1)..];
    }
    Ok(x)
}

/// Whether a hook wants to see something inside a stage, or biases that it wants to see are.
fn shows(stage: &Stage, shape: &Shape, hook: &dyn Hook) -> bool {
    let biased = shape.biases.is_some() && (stage.has_bias() || stage.bias_site().is_some());
    biased || stage.sites().into_iter().any(|site| wants(hook, site))
}

/// What biases are multiplied with from here on: ones, as a hook leaves them that wants to see them.
fn bias_factors(site: Site, x: &Tensor, shape: &Shape, hook: &mut dyn Hook) -> Result<Option<Tensor>> {
    if !wants(hook, site) {
        return Ok(None);
    }
    let wanted = if site.is_of_one_factor() { [shape.examples, 1] } else { [shape.examples, shape.tokens] };
    let factors = shown(hook, site, Tensor::ones(&wanted, x.dtype(), x.device())?)?;
    Ok(Some(factors.unsqueeze(2)?))
}

/// Stages that nobody looks into.
fn unwatched(stages: &[Stage], x: Tensor, shape: Shape) -> Result<Tensor> {
    match stages.iter().all(|stage| matches!(stage, Stage::At(_))) {
        true => Ok(x),
        false => fused(Arc::from(stages), &x, shape),
    }
}

/// One stage whose sites are shown, or that runs by candle's operations.
fn watched(stage: &Stage, x: Tensor, shape: &Shape, hook: &mut dyn Hook, kernels: bool) -> Result<Tensor> {
    stage.width(shape.tokens, shape.channels)?;
    match stage {
        Stage::At(site) if wants(hook, *site) => shown(hook, *site, x),
        Stage::Residual(inner) => plus(&x, &walk(inner, x.clone(), shape, hook, kernels)?, kernels),
        Stage::Transposed(inner) => {
            let (within, last) = inner.split_at(inner.len().saturating_sub(1));
            let turned = walk(within, x.transpose(1, 2)?.contiguous()?, &shape.transposed(), hook, kernels)?;
            let biases = shape.biases.as_ref().map(|factors| factors.transpose(1, 2)).transpose()?;
            let shape = Shape { biases, ..shape.transposed() };
            Ok(walk(last, turned, &shape, hook, kernels)?.transpose(1, 2)?.contiguous()?)
        }
        Stage::Attention(block, site) if wants(hook, *site) => {
            let pattern = shown(hook, *site, pattern(block, &x, shape, kernels)?)?;
            match kernels && !x.track_op() && !pattern.track_op() {
                true => Ok(block.mix_seen(&pattern, &x, shape)?),
                false => Ok(block.mix(&pattern, &x, shape)?),
            }
        }
        stage => match &shape.biases {
            Some(factors) if stage.has_bias() => factored(stage, factors, x, shape, kernels),
            _ => Ok(stage.composed(&x, shape)?),
        },
    }
}

/// One stage whose bias is multiplied with factors: without it, and then with so much of it.
fn factored(stage: &Stage, factors: &Tensor, x: Tensor, shape: &Shape, kernels: bool) -> Result<Tensor> {
    let Some((stage, bias)) = stage.without_bias()? else { return Ok(stage.composed(&x, shape)?) };
    let y = walk(&[stage], x, &Shape { biases: None, ..shape.clone() }, &mut Clear, kernels)?;
    Ok(y.broadcast_add(&factors.broadcast_mul(&bias)?)?)
}

/// An attention's A: by hand-written kernels where they may be used, and no gradient is asked for.
fn pattern(attention: &Attention, x: &Tensor, shape: &Shape, kernels: bool) -> Result<Tensor> {
    match kernels && !x.track_op() && !attention.has_windows(shape) {
        true => Ok(attention.pattern_seen(x, shape)?),
        false => Ok(attention.pattern(x, shape)?),
    }
}

/// x + y. Where no gradient is asked for, by a plain loop: for so few numbers, candle's threads wait for each other longer.
fn plus(x: &Tensor, y: &Tensor, kernels: bool) -> Result<Tensor> {
    match x.dtype() {
        _ if !kernels || x.track_op() || y.track_op() || x.dims() != y.dims() => Ok((x + y)?),
        DType::F64 => Ok(added::<f64>(x, y)?),
        _ => Ok(added::<f32>(x, y)?),
    }
}

fn added<T: Real>(x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
    const SHARE: usize = 1 << 16;
    let (x, y) = (x.contiguous()?, y.contiguous()?);
    let (mut sum, more) = (view::<T>(&x)?.to_vec(), view::<T>(&y)?);
    let more: &[T] = &more;
    sum.par_chunks_mut(SHARE).zip(more.par_chunks(SHARE)).for_each(|(sum, more)| add(sum, more));
    Tensor::from_vec(sum, x.shape(), x.device())
}

/// The pattern of the first attention among stages, or inside one of them.
fn first_pattern(stages: &[Stage], x: &Tensor, shape: &Shape) -> Result<Option<Tensor>> {
    let (kernels, reach) =
        (has_kernels(x), |stage: &Stage| stage.sites().iter().any(|site| matches!(site, Site::Pattern(_))));
    let Some(place) = stages.iter().position(reach) else { return Ok(None) };
    let x = walk(&stages[..place], x.clone(), shape, &mut Clear, kernels)?;
    let shape = Shape { channels: x.dim(2)?, ..shape.clone() };
    match &stages[place] {
        Stage::Attention(block, _) => pattern(block, &x, &shape, kernels).map(Some),
        Stage::Residual(inner) => first_pattern(inner, &x, &shape),
        _ => Ok(None),
    }
}

fn wants(hook: &dyn Hook, site: Site) -> bool {
    hook.sites().contains(&site)
}

fn fused(stages: Arc<[Stage]>, x: &Tensor, shape: Shape) -> Result<Tensor> {
    let (into, out) = widths(&stages, shape.tokens, shape.channels)?;
    let shape = Shape { keep: x.track_op(), ..shape };
    let parts = parts(&shape, stages.iter().any(Stage::is_packed));
    Ok(x.contiguous()?.apply_op1(Fused { stages, into, out, shape, parts, kept: OnceLock::new() })?)
}

/// The examples shared out over the cores; with fewer examples than cores, or packed matrices, which every core would
/// unpack for itself, the matrix products are shared instead.
fn parts(shape: &Shape, packed: bool) -> Vec<Shape> {
    let (examples, cores) = (shape.examples, rayon::current_num_threads());
    if examples < cores || cores == 1 || packed {
        return vec![shape.clone()];
    }
    let each = examples.div_ceil(cores);
    let parts = (0..examples).step_by(each).map(|start| start..examples.min(start + each));
    parts.map(|some| shape.some(some).on_one_core()).collect()
}

/// The chain as candle sees it: one operation that remembers what its backward needs.
struct Fused {
    stages: Arc<[Stage]>,
    into: Vec<usize>,
    out: usize,
    shape: Shape,
    parts: Vec<Shape>,
    kept: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "pellucid-chain"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, candle_core::Shape)> {
        match x {
            CpuStorage::F64(x) => self.run_forward(x, layout),
            x => self.run_forward(f32::cpu_storage_as_slice(x)?, layout),
        }
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        match x.dtype() {
            DType::F64 => self.run_backward::<f64>(x, dy).map(Some),
            _ => self.run_backward::<f32>(x, dy).map(Some),
        }
    }
}

impl Fused {
    fn run_forward<T: Real>(&self, x: &[T], layout: &Layout) -> candle_core::Result<(CpuStorage, candle_core::Shape)> {
        let x = &x[layout.start_offset()..][..layout.shape().elem_count()];
        let size = self.parts[0].rows() * self.shape.channels;
        let run = |(shape, x): (&Shape, &[T])| forward(&self.stages, x.to_vec(), shape);
        let done: Vec<_> =
            self.parts.par_iter().zip(x.par_chunks(size)).map(run).collect::<candle_core::Result<_>>()?;
        let (y, kept): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        let _ = self.kept.set(Box::new(kept));
        Ok((T::to_cpu_storage_owned(joined(y)), (self.shape.examples, self.shape.tokens, self.out).into()))
    }

    fn run_backward<T: Real>(&self, x: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
        let Some(kept) = self.kept.get().and_then(|kept| kept.downcast_ref::<Vec<Vec<Kept<T>>>>()) else {
            candle_core::bail!("the chain ran without keeping what its backward needs")
        };
        let dy = dy.flatten_all()?.to_vec1::<T>()?;
        let size = self.parts[0].rows() * self.out;
        let run = |((shape, kept), dy): ((&Shape, &Vec<Kept<T>>), &[T])| {
            backward(&self.stages, kept, dy.to_vec(), shape, &self.into)
        };
        let work = self.parts.par_iter().zip(kept).zip(dy.par_chunks(size));
        let dx: Vec<Rows<T>> = work.map(run).collect::<candle_core::Result<_>>()?;
        Tensor::from_vec(joined(dx), x.shape(), x.device())
    }
}

/// What one stage's backward needs: that of a block, or of the stages inside a residual.
enum Kept<T> {
    Block(Tape<T>),
    Inner(Vec<Kept<T>>),
}

impl<T> Kept<T> {
    fn block(&self) -> &[Rows<T>] {
        match self {
            Self::Block(tape) => tape,
            Self::Inner(_) => &[],
        }
    }

    fn inner(&self) -> &[Kept<T>] {
        match self {
            Self::Block(_) => &[],
            Self::Inner(inner) => inner,
        }
    }
}

fn forward<T: Real>(stages: &[Stage], mut x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Vec<Kept<T>>)> {
    let mut kept = Vec::with_capacity(stages.len());
    for stage in stages {
        let shape = Shape { channels: x.len() / shape.rows(), ..shape.clone() };
        let (y, keeps) = stage.forward(x, &shape)?;
        x = y;
        kept.push(if shape.keep { keeps } else { Kept::Inner(Vec::new()) });
    }
    Ok((x, kept))
}

/// `into`: the channels that went into each stage.
fn backward<T: Real>(
    stages: &[Stage],
    kept: &[Kept<T>],
    mut dy: Rows<T>,
    shape: &Shape,
    into: &[usize],
) -> candle_core::Result<Rows<T>> {
    for ((stage, kept), &channels) in stages.iter().zip(kept).zip(into).rev() {
        dy = stage.backward(kept, dy, &Shape { channels, ..shape.clone() })?;
    }
    Ok(dy)
}

impl Stage {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Kept<T>)> {
        by_block!(self, block => block.forward(x, shape).map(|(y, kept)| (y, Kept::Block(kept))), {
            Self::At(_) => Ok((x, Kept::Block(Vec::new()))),
            Self::Residual(stages) => {
                let (mut y, kept) = forward(stages, x.clone(), shape)?;
                add(&mut y, &x);
                Ok((y, Kept::Inner(kept)))
            }
            Self::Transposed(stages) => {
                let turned = shape.transposed();
                let (y, kept) = forward(stages, transpose(&x, shape), &turned)?;
                Ok((transpose(&y, &turned), Kept::Inner(kept)))
            }
        })
    }

    fn backward<T: Real>(&self, kept: &Kept<T>, dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        by_block!(self, block => block.backward(kept.block(), dy, shape), {
            Self::At(_) => Ok(dy),
            Self::Residual(stages) => {
                let mut dx = inner_backward(stages, kept, dy.clone(), shape)?;
                add(&mut dx, &dy);
                Ok(dx)
            }
            Self::Transposed(stages) => {
                let turned = shape.transposed();
                Ok(transpose(&inner_backward(stages, kept, transpose(&dy, shape), &turned)?, &turned))
            }
        })
    }

    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        by_block!(self, block => block.composed(x, shape), {
            Self::At(_) | Self::Residual(_) | Self::Transposed(_) => Ok(x.clone())
        })
    }
}

/// The backward of stages inside a stage.
fn inner_backward<T: Real>(
    stages: &[Stage],
    kept: &Kept<T>,
    dy: Rows<T>,
    shape: &Shape,
) -> candle_core::Result<Rows<T>> {
    let into = widths(stages, shape.tokens, shape.channels).map_err(candle_core::Error::wrap)?.0;
    backward(stages, kept.inner(), dy, shape, &into)
}

/// Every example's `(t,c)` numbers as `(c,t)`.
fn transpose<T: Real>(x: &[T], shape: &Shape) -> Rows<T> {
    let (t, c) = (shape.tokens, shape.channels);
    let mut y = vec![T::zero(); x.len()];
    for (x, y) in x.chunks_exact(t * c).zip(y.chunks_exact_mut(t * c)) {
        for (token, row) in x.chunks_exact(c).enumerate() {
            row.iter().enumerate().for_each(|(channel, &value)| y[channel * t + token] = value);
        }
    }
    y
}

/// What the cores made, one after the other, copied by all of them.
fn joined<T: Real>(mut parts: Vec<Rows<T>>) -> Rows<T> {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let mut all = vec![T::zero(); parts.iter().map(Vec::len).sum()];
    let mut rest = &mut all[..];
    let places = parts.iter().map(|part| rest.split_off_mut(..part.len()).unwrap_or_default());
    let places: Vec<&mut [T]> = places.collect();
    places.into_par_iter().zip(&parts).for_each(|(place, part)| place.copy_from_slice(part));
    all
}

fn add<T: Real>(y: &mut [T], x: &[T]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
}
