//! What nobody can be faster than: this machine's matrix product at its best.

use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use pellucid::prelude::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::common::plan::{Plan, Scale};
use crate::common::{Fallible, device};

const ROUNDS: usize = 9;

/// Multiply–adds a second of the best of several large products: by `faer` in single precision on as many threads as a racer has, or on the
/// device in the racers' precision.
pub fn peak(plan: &Plan) -> Fallible<f64> {
    let side = if plan.scale == Scale::Dry { 512 } else { 2048 };
    let device = pellucid::device()?;
    let seconds = match device {
        Device::Cpu => on_cpu(side),
        _ => on_device(2 * side, &device, device::load(&plan.dtype).dtype)?,
    };
    let side = if device.is_cpu() { side } else { 2 * side };
    Ok((side * side * side) as f64 / seconds)
}

/// Each thread makes an equal share of the columns.
fn on_cpu(side: usize) -> f64 {
    let (a, b, mut out) = (vec![0.5f32; side * side], vec![0.25f32; side * side], vec![0f32; side * side]);
    let share = side * side.div_ceil(rayon::current_num_threads());
    let a = MatRef::from_column_major_slice(&a, side, side);
    let product = |(out, b): (&mut [f32], &[f32])| {
        let columns = b.len() / side;
        let out = MatMut::from_column_major_slice_mut(out, side, columns);
        matmul(out, Accum::Replace, a, MatRef::from_column_major_slice(b, side, columns), 1.0, Par::Seq);
    };
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        out.par_chunks_mut(share).zip(b.par_chunks(share)).for_each(product);
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn on_device(side: usize, device: &Device, dtype: DType) -> Fallible<f64> {
    let a = Tensor::ones((side, side), dtype, device)?;
    let mut best = f64::INFINITY;
    for _ in 0..=ROUNDS {
        device.synchronize()?;
        let start = Instant::now();
        let product = a.matmul(&a)?;
        device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
        drop(product);
    }
    Ok(best)
}
