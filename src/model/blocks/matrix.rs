//! Matrix products on borrowed slices: the one place where the crate calls `gemm`, which is `unsafe`.

use std::ops::Range;

use candle_core::WithDType;
use gemm::Parallelism;
use rayon::prelude::*;

/// Numbers the CPU kernels run on: `f32` for work, `f64` for proofs.
pub(crate) trait Real:
    WithDType + num_traits::Float + std::iter::Sum + std::ops::AddAssign + std::ops::MulAssign + Send + Sync
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

/// A read-only matrix inside a slice, with any strides.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix whose rows start `row_stride` elements apart.
    pub fn new(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        let matrix = Self { data, rows, cols, row_stride, col_stride: 1 };
        assert!(fits(data.len(), rows, cols, row_stride), "a {rows}×{cols} matrix does not fit its slice");
        matrix
    }

    /// The same matrix, transposed (no copy).
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

fn fits(len: usize, rows: usize, cols: usize, row_stride: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= len
}

/// out = (out if `accumulate`) + scale · a·b, where `out` is row-major with rows `row_stride` apart.
///
/// Where it may use all cores, each makes some of the columns: one hand-over for the whole product.
pub(crate) fn matmul<T: Real>(
    out: &mut [T],
    row_stride: usize,
    accumulate: bool,
    scale: T,
    a: Matrix<T>,
    b: Matrix<T>,
    threads: Parallelism,
) {
    assert_eq!(a.cols, b.rows, "inner sizes differ");
    assert!(fits(out.len(), a.rows, b.cols, row_stride), "the product does not fit its slice");
    assert!(a.rows < 2 || row_stride >= b.cols, "rows of the product overlap");
    let out = Columns(out.as_mut_ptr());
    // SAFETY: `Matrix::new` and the assertions above keep every access, at any strides, inside the three slices; `out` is
    // borrowed mutably, so it overlaps neither operand, and no two ranges of columns share a number.
    let columns = |range: Range<usize>| unsafe { gemm_columns(&out, row_stride, accumulate, scale, a, b, range) };
    let each = match threads {
        Parallelism::Rayon(_) if a.rows * a.cols * b.cols >= WORTH_SHARING => columns_each(b.cols),
        _ => b.cols.max(1),
    };
    let starts: Vec<usize> = (0..b.cols).step_by(each).collect();
    starts.into_par_iter().for_each(|start| columns(start..b.cols.min(start + each)));
}

/// So many multiplications are worth a hand-over to another core.
const WORTH_SHARING: usize = 1 << 18;

/// An equal share of the columns for each core, in whole vectors.
fn columns_each(columns: usize) -> usize {
    const VECTOR: usize = 16;
    columns.div_ceil(rayon::current_num_threads()).next_multiple_of(VECTOR)
}

/// Where a product goes, for several cores at once.
struct Columns<T>(*mut T);

// SAFETY: every core writes to columns of its own.
unsafe impl<T: Send> Sync for Columns<T> {}

/// Some columns of out = (out if `accumulate`) + scale · a·b.
///
/// # Safety
///
/// The operands lie inside their slices; so does the product, and nothing else reads or writes these columns meanwhile.
unsafe fn gemm_columns<T: Real>(
    out: &Columns<T>,
    row_stride: usize,
    accumulate: bool,
    scale: T,
    a: Matrix<T>,
    b: Matrix<T>,
    columns: Range<usize>,
) {
    // SAFETY: the caller's.
    unsafe {
        gemm::gemm(
            a.rows,
            columns.len(),
            a.cols,
            out.0.add(columns.start),
            1,
            row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr().add(columns.start * b.col_stride),
            b.col_stride as isize,
            b.row_stride as isize,
            T::one(),
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
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
        const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding and subtracting it rounds to an integer
        let x = self.clamp(-87.3, 88.0);
        let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
        let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
        let p = 1.987_569_1e-4f32;
        let p = ((((p * r + 1.398_2e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1) * r + 0.5;
        let two_to_n = f32::from_bits((((n as i32) + 127) << 23) as u32);
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
