//! Blocks one after another, as one node of candle's graph.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Tensor, WithDType};
use gemm::Parallelism;
use rayon::prelude::*;

use super::matrix::Real;
use super::stage::{Block, Rows, Shape, Stage, by_block, widths};
use crate::model::hook::{Clear, Hook, Site};
use crate::{Error, Result};

/// Stages applied in order, `(n,t,c) → (n,t,d)`.
///
/// On the CPU, in `f32` or `f64`, the whole chain is one operation: examples are shared out over the cores, each core runs
/// its own from end to end, and only what the backward needs is kept. Where a hook wants to see inside, and on other
/// devices, the stages run one by one.
#[derive(Clone, Debug)]
pub struct Chain {
    stages: Arc<[Stage]>,
}

impl Chain {
    /// The stages, first to last.
    pub fn new(stages: Vec<Stage>) -> Self {
        Self { stages: stages.into() }
    }

    /// The same, and then more.
    pub fn then(&self, more: Vec<Stage>) -> Self {
        Self { stages: self.stages.iter().cloned().chain(more).collect() }
    }

    /// How much memory its matrices take.
    pub fn bytes(&self) -> usize {
        self.stages.iter().map(Stage::bytes).sum()
    }

    /// `(n,t,c) → (n,t,d)`, differentiable in x. `key_mask` says which tokens may be attended to (all if `None`).
    ///
    /// Errors: x is not `(n,t,c)` with the c of the first stage; a mask of another length.
    pub fn forward(&self, x: &Tensor, key_mask: Option<&[bool]>, hook: &mut dyn Hook) -> Result<Tensor> {
        self.run(x, shape_of(x, key_mask)?, hook)
    }

    /// The same for the tokens after a past: `(1,p,d)` at the input of attention, which every example attends to, and
    /// whose positions come first. It is a constant, without a gradient.
    ///
    /// Errors: also a past of another width.
    pub fn forward_after(&self, x: &Tensor, past: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let past = past.detach().contiguous()?;
        self.run(x, Shape { past: Some(past), ..shape_of(x, None)? }, hook)
    }

    fn run(&self, x: &Tensor, shape: Shape, hook: &mut dyn Hook) -> Result<Tensor> {
        let wanted = hook.sites();
        let seen = self.stages.iter().flat_map(Stage::sites).any(|site| wanted.contains(&site));
        match seen || !has_kernels(x) {
            true => walk(&self.stages, x.clone(), &shape, hook, has_kernels(x)),
            false => fused(self.stages.clone(), x, shape),
        }
    }

    /// The same from candle's differentiable operations alone: the slow road, the same on every device.
    pub fn composed(&self, x: &Tensor, key_mask: Option<&[bool]>) -> Result<Tensor> {
        let shape = shape_of(x, key_mask)?;
        walk(&self.stages, x.clone(), &shape, &mut Clear, false)
    }
}

fn shape_of(x: &Tensor, key_mask: Option<&[bool]>) -> Result<Shape> {
    let &[examples, tokens, channels] = x.dims() else { return Err(Error::shape("x", "(n, t, c)", x.dims())) };
    if x.elem_count() == 0 {
        return Err(Error::shape("x", "(n, t, c), none of them 0", x.dims()));
    }
    if let Some(mask) = key_mask.filter(|mask| mask.len() != tokens) {
        return Err(Error::shape("the mask", format!("({tokens},), one per token"), &[mask.len()]));
    }
    let key_mask = key_mask.map(Arc::from);
    Ok(Shape { examples, tokens, channels, key_mask, past: None, threads: Parallelism::Rayon(0) })
}

/// Whether the hand-written kernels cover this device and precision.
fn has_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// The stages one by one, each site shown to the hook, by hand-written kernels or by candle's operations.
fn walk(stages: &[Stage], mut x: Tensor, shape: &Shape, hook: &mut dyn Hook, kernels: bool) -> Result<Tensor> {
    for stage in stages {
        let shape = Shape { channels: x.dim(2)?, ..shape.clone() };
        stage.width(shape.channels)?;
        x = match stage {
            Stage::At(site) if wants(hook, *site) => hook.at(*site, x)?,
            Stage::Residual(inner) => (&x + walk(inner, x.clone(), &shape, hook, kernels)?)?,
            Stage::Attention(block, site) if wants(hook, *site) => {
                let pattern = hook.at(*site, block.pattern(&x, &shape)?)?;
                block.mix(&pattern, &x, &shape)?
            }
            stage if kernels => fused(Arc::from([stage.clone()]), &x, shape)?,
            stage => stage.composed(&x, &shape)?,
        };
    }
    Ok(x)
}

fn wants(hook: &dyn Hook, site: Site) -> bool {
    hook.sites().contains(&site)
}

fn fused(stages: Arc<[Stage]>, x: &Tensor, shape: Shape) -> Result<Tensor> {
    let (into, out) = widths(&stages, shape.channels)?;
    let parts = parts(&shape, stages.iter().any(Stage::is_packed));
    Ok(x.contiguous()?.apply_op1(Fused {
        stages,
        into,
        out,
        shape,
        parts,
        keep: x.track_op(),
        kept: OnceLock::new(),
    })?)
}

/// The examples shared out over the cores; with fewer examples than cores, or packed matrices, which every core would
/// unpack for itself, the matrix products are shared instead.
fn parts(shape: &Shape, packed: bool) -> Vec<Shape> {
    let (examples, cores) = (shape.examples, rayon::current_num_threads());
    if examples < cores || cores == 1 || packed {
        return vec![shape.clone()];
    }
    let each = examples.div_ceil(cores);
    let sizes = (0..examples).step_by(each).map(|start| each.min(examples - start));
    sizes.map(|examples| Shape { examples, threads: Parallelism::None, ..shape.clone() }).collect()
}

/// The chain as candle sees it: one operation that remembers what its backward needs.
struct Fused {
    stages: Arc<[Stage]>,
    into: Vec<usize>,
    out: usize,
    shape: Shape,
    parts: Vec<Shape>,
    keep: bool,
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
        let run = |(shape, x): (&Shape, &[T])| forward(&self.stages, x.to_vec(), shape, self.keep);
        let done: Vec<_> =
            self.parts.par_iter().zip(x.par_chunks(size)).map(run).collect::<candle_core::Result<_>>()?;
        let (y, kept): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        let _ = self.kept.set(Box::new(kept));
        Ok((T::to_cpu_storage_owned(y.concat()), (self.shape.examples, self.shape.tokens, self.out).into()))
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
        Tensor::from_vec(dx.concat(), x.shape(), x.device())
    }
}

/// What one stage's backward needs: a block's rows, or what the stages inside a residual need.
enum Kept<T> {
    Rows(Rows<T>),
    Inner(Vec<Kept<T>>),
}

impl<T> Kept<T> {
    fn rows(&self) -> &[T] {
        match self {
            Self::Rows(rows) => rows,
            Self::Inner(_) => &[],
        }
    }

    fn inner(&self) -> &[Kept<T>] {
        match self {
            Self::Rows(_) => &[],
            Self::Inner(inner) => inner,
        }
    }
}

fn forward<T: Real>(
    stages: &[Stage],
    mut x: Rows<T>,
    shape: &Shape,
    keep: bool,
) -> candle_core::Result<(Rows<T>, Vec<Kept<T>>)> {
    let mut kept = Vec::with_capacity(stages.len());
    for stage in stages {
        let shape = Shape { channels: x.len() / shape.rows(), ..shape.clone() };
        let (y, keeps) = stage.forward(x, &shape, keep)?;
        x = y;
        kept.push(if keep { keeps } else { Kept::Inner(Vec::new()) });
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
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape, keep: bool) -> candle_core::Result<(Rows<T>, Kept<T>)> {
        by_block!(self, block => block.forward(x, shape).map(|(y, kept)| (y, Kept::Rows(kept))), {
            Self::At(_) => Ok((x, Kept::Rows(Vec::new()))),
            Self::Residual(stages) => {
                let (mut y, kept) = forward(stages, x.clone(), shape, keep)?;
                add(&mut y, &x);
                Ok((y, Kept::Inner(kept)))
            }
        })
    }

    fn backward<T: Real>(&self, kept: &Kept<T>, dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        by_block!(self, block => block.backward(kept.rows(), dy, shape), {
            Self::At(_) => Ok(dy),
            Self::Residual(stages) => {
                let into = widths(stages, shape.channels).map_err(candle_core::Error::wrap)?.0;
                let mut dx = backward(stages, kept.inner(), dy.clone(), shape, &into)?;
                add(&mut dx, &dy);
                Ok(dx)
            }
        })
    }

    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        by_block!(self, block => block.composed(x, shape), { Self::At(_) | Self::Residual(_) => Ok(x.clone()) })
    }
}

fn add<T: Real>(y: &mut [T], x: &[T]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
}
