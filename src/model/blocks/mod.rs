//! The differentiable blocks transformers are built of, with frozen weights.
//!
//! candle's own layers cannot be explained: their fused kernels drop gradients silently, and its matrix product also
//! computes the gradient of every weight, which an explanation throws away. So each block here is its forward and,
//! beside it, the vector–Jacobian product of its *input*, both by hand on plain slices, plus `composed`: the same block
//! from candle's differentiable operations, the slow road that devices other than the CPU take and that tests compare.
//!
//! A [`Chain`] of blocks is one node of candle's graph.

mod activation;
mod attention;
mod chain;
mod layer_norm;
mod linear;
mod matrix;
mod stage;

pub use activation::Activation;
pub use attention::Attention;
pub use chain::Chain;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use stage::Stage;

/// Runs a loop compiled for the widest vectors this processor has.
#[inline(always)]
fn simd<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Σᵢ term(i) over 0..len in sixteen interleaved lanes, so that the compiler may add them side by side.
#[inline(always)]
fn sum<T: matrix::Real>(len: usize, term: impl Fn(usize) -> T) -> T {
    const LANES: usize = 16;
    let mut lanes = [T::zero(); LANES];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(start + lane);
        }
    }
    let rest: T = (whole..len).map(&term).sum();
    lanes.into_iter().sum::<T>() + rest
}
