//! How far one number is from the one it should be.

use candle_core::DType;

use super::value::Value;

/// A field of a case: the largest deviation of its elements, and how much is allowed.
#[derive(Clone, Debug)]
pub struct Check {
    pub field: String,
    pub err: f64,
    pub tol: f64,
}

impl Check {
    /// A field computed in some precision against the one expected. Values of other shapes are infinitely far.
    pub fn new(field: &str, dtype: DType, got: &Value, expected: &Value, tol: f64) -> Self {
        Self { field: format!("{field} in {}", dtype.as_str()), err: got.distance(expected), tol }
    }

    /// Whether the deviation is allowed; one that is not a number is not.
    pub fn ok(&self) -> bool {
        self.err <= self.tol
    }

    /// The deviation in units of what is allowed.
    pub fn ratio(&self) -> f64 {
        match self {
            Self { err: 0.0, .. } => 0.0,
            _ if self.err.is_nan() => f64::INFINITY,
            _ => self.err / self.tol,
        }
    }
}
