//! The differentiable blocks transformers are built of, with frozen weights.
//!
//! candle's own layers cannot be explained: their fused kernels drop gradients silently, and its matrix product also
//! computes the gradient of every weight, which an explanation throws away. So each block here is its forward and,
//! beside it, the vector–Jacobian product of its *input*, both by hand on plain slices, plus `composed`: the same block
//! from candle's differentiable operations, the slow road that devices other than the CPU take and that tests compare.
//!
//! A [`Chain`] of blocks is one node of candle's graph. What it walks back is the gradient, or what [`Rules`](crate::model::Rules) put in its place:
//! both stand side by side in each block's file.
//!
//! ```
//! # use pellucid::prelude::*;
//! use pellucid::model::blocks::{Activation, Chain, LayerNorm, Stage};
//! let weight = Tensor::new(&[1.0f64, 2.0, 0.5], &Device::Cpu)?;
//! let bias = Tensor::new(&[0.5f64, 0.0, -1.0], &Device::Cpu)?;
//! let stages = vec![Stage::LayerNorm(LayerNorm::new(weight, bias, 1e-5)?), Stage::Activation(Activation::Gelu)];
//! let chain = Chain::new(stages);
//! let x = Tensor::new(&[[0.3f64, -0.7, 0.2]], &Device::Cpu)?;    // (t,c), one token
//! assert!(grad_check(|x| Ok(chain.forward(x, None, &mut Clear)?.sum((1, 2))?), &x)? < 1e-7);
//! # Ok::<(), pellucid::Error>(())
//! ```

mod activation;
mod attention;
mod chain;
mod frozen;
mod gate;
mod layer_norm;
mod linear;
mod log_probability;
mod matrix;
mod rms_norm;
mod rope;
mod stage;
mod unit_length;
mod weight;

pub use activation::Activation;
pub use attention::Attention;
pub use chain::Chain;
pub use gate::Gate;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use log_probability::LogProbability;
use matrix::Cores;
pub(crate) use matrix::Real;
pub use rms_norm::{HeadNorm, RmsNorm};
pub use rope::{Pairing, Rope};
pub(crate) use stage::view;
pub use stage::{Position, Setting, Stage};
pub use unit_length::UnitLength;
pub use weight::Weight;

/// Runs a loop compiled for the widest vectors this processor has. The closure must be `#[inline(always)]`: left to itself
/// the compiler may call it, compiled for the narrowest.
#[inline(always)]
pub(crate) fn simd<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// How many of so many numbers one core works on: all, or, where every core serves the same example and there is enough to do, a
/// share of the rows.
fn share(shape: &stage::Shape, numbers: usize) -> usize {
    const WORTH: usize = 1 << 15;
    match shape.cores {
        Cores::All if numbers >= WORTH => {
            shape.rows().div_ceil(rayon::current_num_threads()) * (numbers / shape.rows())
        }
        _ => numbers.max(1),
    }
}

/// Σᵢ term(i) over 0..len.
#[inline(always)]
pub(crate) fn sum<T: Real>(len: usize, term: impl Fn(usize) -> T) -> T {
    fold(len, T::zero(), term, |total, x| total + x)
}

/// The greatest number of a row.
#[inline(always)]
pub(crate) fn greatest<T: Real>(row: &[T]) -> T {
    fold(row.len(), T::neg_infinity(), |i| row[i], |top, x| if x > top { x } else { top })
}

/// Combines term(0), …, term(len − 1) in sixteen interleaved lanes, which the compiler can keep in one vector.
#[inline(always)]
fn fold<T: Real>(len: usize, start: T, term: impl Fn(usize) -> T, combine: impl Fn(T, T) -> T) -> T {
    const LANES: usize = 16;
    let mut lanes = [start; LANES];
    let whole = len / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total = combine(*total, term(first + lane));
        }
    }
    let rest = (whole..len).fold(start, |total, i| combine(total, term(i)));
    lanes.into_iter().fold(rest, combine)
}
