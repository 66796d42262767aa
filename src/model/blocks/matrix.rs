//! Matrix products on borrowed slices, by `faer`, and the numbers they are of.

use candle_core::WithDType;
use faer::linalg::matmul;
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Numbers the CPU kernels run on: `f32` for work, `f64` for proofs.
pub(crate) trait Real:
    WithDType + num_traits::Float + ComplexField + std::iter::Sum + std::ops::AddAssign + std::ops::MulAssign + Send + Sync
{
    /// (Φ(x), φ(x)): the standard normal's distribution function and density.
    fn normal(self) -> (Self, Self);
    /// eˣ, written so that a loop over it vectorises where the precision allows.
    fn fast_exp(self) -> Self;
    /// tanh(x), likewise, and to full relative precision near 0.
    fn fast_tanh(self) -> Self;
    /// The literal `x` in this precision.
    fn lit(x: f64) -> Self;
}

/// How many cores a piece of work may spread over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cores {
    One,
    All,
}

/// A row-major matrix inside a slice, its rows `row_stride` elements apart.
pub(crate) fn matrix<T>(data: &[T], rows: usize, cols: usize, row_stride: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice_with_stride(data, rows, cols, row_stride)
}

/// out = (out if `accumulate`) + scale · a·b, where `out` is row-major with rows `row_stride` apart.
///
/// Where it may use all cores, each makes some of the columns: one hand-over for the whole product.
pub(crate) fn matmul<T: Real>(
    out: &mut [T],
    row_stride: usize,
    accumulate: bool,
    scale: T,
    a: MatRef<T>,
    b: MatRef<T>,
    cores: Cores,
) {
    let (keep, columns) = (if accumulate { Accum::Add } else { Accum::Replace }, b.ncols());
    let out = MatMut::from_column_major_slice_with_stride_mut(out, columns, a.nrows(), row_stride).transpose_mut();
    let worth_sharing = cores == Cores::All && a.nrows() * a.ncols() * columns >= WORTH_SHARING;
    let each = if worth_sharing { columns_each(columns) } else { columns };
    let product = |(out, b): (MatMut<T>, MatRef<T>)| matmul::matmul(out, keep, a, b, scale, Par::Seq);
    in_columns(out, b, each).into_par_iter().for_each(product);
}

/// So many multiplications are worth a hand-over to another core.
const WORTH_SHARING: usize = 1 << 18;

/// An equal share of the columns for each core, in whole vectors.
fn columns_each(columns: usize) -> usize {
    const VECTOR: usize = 16;
    columns.div_ceil(rayon::current_num_threads()).next_multiple_of(VECTOR)
}

/// Both matrices in pieces of some columns each.
fn in_columns<'a, T>(mut out: MatMut<'a, T>, mut b: MatRef<'a, T>, each: usize) -> Vec<(MatMut<'a, T>, MatRef<'a, T>)> {
    let mut pieces = Vec::new();
    while b.ncols() > each {
        let (first, rest) = out.split_at_col_mut(each);
        let (columns, others) = b.split_at_col(each);
        pieces.push((first, columns));
        (out, b) = (rest, others);
    }
    pieces.push((out, b));
    pieces
}

impl Real for f64 {
    fn normal(self) -> (f64, f64) {
        use std::f64::consts::{FRAC_1_SQRT_2, PI};
        let density = (-0.5 * self * self).exp() / (2.0 * PI).sqrt();
        (0.5 * (1.0 + candle_core::cpu::erf::erf_f64(self * FRAC_1_SQRT_2)), density)
    }

    fn fast_exp(self) -> f64 {
        self.exp()
    }

    fn fast_tanh(self) -> f64 {
        self.tanh()
    }

    fn lit(x: f64) -> f64 {
        x
    }
}

impl Real for f32 {
    /// Abramowitz & Stegun 7.1.26 (|error| < 1.5e-7, f32's own rounding): its exponential is φ's, so one serves both.
    #[inline(always)]
    fn normal(self) -> (f32, f32) {
        const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;
        let gauss = (-0.5 * self * self).fast_exp();
        let t = 1.0 / (1.0 + 0.327_591_1 * self.abs() * std::f32::consts::FRAC_1_SQRT_2);
        let poly = t * (0.254_829_6 + t * (-0.284_496_72 + t * (1.421_413_8 + t * (-1.453_152_1 + t * 1.061_405_4))));
        let tail = 0.5 * poly * gauss;
        (if self >= 0.0 { 1.0 - tail } else { tail }, FRAC_1_SQRT_2PI * gauss)
    }

    /// Cephes' `expf`: eˣ = 2ⁿ·eʳ with |r| ≤ ½ln 2 and a degree-5 polynomial; branch-free, within 2 ulp
    /// up to e⁸⁸, where it stays; 0 below e⁻⁸⁷.
    #[inline(always)]
    fn fast_exp(self) -> f32 {
        const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to an integer, which then stands in the lowest bits
        const ONE: u32 = 0x3f80_0000;
        let x = self.clamp(-87.3, 88.0);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
        let p = 1.987_569_1e-4f32;
        let p = ((((p * r + 1.398_2e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1) * r + 0.5;
        let two_to_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(ONE));
        if self < -87.3 { 0.0 } else { (p * r * r + r + 1.0) * two_to_n }
    }

    #[inline(always)]
    fn fast_tanh(self) -> f32 {
        let far = 1.0 - 2.0 / ((2.0 * self).fast_exp() + 1.0);
        let square = self * self;
        let near = self * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
        if square < 0.04 { near } else { far }
    }

    #[inline(always)]
    fn lit(x: f64) -> f32 {
        x as f32
    }
}
