//! How far apart numbers are: NaN where any of them is, which is neither below nor above what a test allows.

#![allow(dead_code)] // a test takes what it needs

use pellucid::prelude::*;

/// The largest of numbers that are not negative.
pub fn largest(numbers: impl IntoIterator<Item = f64>) -> f64 {
    numbers.into_iter().fold(0.0, |most: f64, number| if number > most || number.is_nan() { number } else { most })
}

/// The largest difference of two lists.
pub fn far(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    largest(a.iter().zip(b).map(|(a, b)| (a - b).abs()))
}

/// The largest difference of two tensors of one shape.
pub fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    let numbers = |x: &Tensor| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    Ok(far(&numbers(a)?, &numbers(b)?))
}
