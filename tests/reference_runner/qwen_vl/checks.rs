//! How near these cases must be met.

use candle_core::DType;

use super::super::Fallible;
use super::super::check::Check;
use super::super::value::Value;

/// The fields of a case in one precision, held against what is expected of them.
pub struct Checks {
    dtype: DType,
    checks: Vec<Check>,
}

impl Checks {
    /// None yet.
    pub fn new(dtype: DType) -> Self {
        Self { dtype, checks: vec![] }
    }

    /// All of them.
    pub fn all(self) -> Vec<Check> {
        self.checks
    }

    /// What is counted, and has no precision.
    pub fn exact(&mut self, field: &str, got: &Value, expected: &Value) {
        self.within(field, got, expected, 0.0);
    }

    /// Logits, features and their like.
    pub fn near(&mut self, field: &str, got: &Value, expected: &Value) -> Fallible<()> {
        let tol = if self.dtype == DType::F64 { rounding(largest(expected)?) } else { 1e-4 };
        self.within(field, got, expected, tol);
        Ok(())
    }

    /// Gradients, attributions and sums of them, whose terms are as large as `scale`.
    pub fn of_scale(&mut self, field: &str, got: &Value, expected: &Value, scale: f64) {
        self.within(field, got, expected, if self.dtype == DType::F64 { rounding(scale) } else { 1e-4 * scale });
    }

    /// What may be off by so much.
    pub fn within(&mut self, field: &str, got: &Value, expected: &Value, tol: f64) {
        self.checks.push(Check::new(field, self.dtype, got, expected, tol));
    }

    /// A slope by central differences, which are a little off themselves.
    pub fn slope(&mut self, field: &str, got: f64, expected: f64, steepest: f64) {
        let tol = if self.dtype == DType::F64 { 2e-6 * steepest } else { 1e-4 * steepest };
        self.within(field, &got.into(), &expected.into(), tol);
    }
}

/// What rounding to the files' `f32` leaves.
fn rounding(scale: f64) -> f64 {
    2e-7 * scale + 1e-9
}

/// The largest |number|.
pub fn largest(value: &Value) -> Fallible<f64> {
    Ok(value.numbers()?.iter().map(|x| x.abs()).fold(0.0, f64::max))
}
