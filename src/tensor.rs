//! What every room needs of a tensor: its numbers, whether they are finite, whether they are real.

use candle_core::shape::Dims;
use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;

use crate::{Error, Result};

/// The values as `f64`, whatever the tensor's shape, device and precision.
pub(crate) fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.detach().flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?)
}

/// Errors if a number of a tensor is NaN or infinite, which is found out where the tensor is: only of finite numbers, Σ x·0 is 0.
pub(crate) fn all_finite(what: &str, x: &Tensor) -> Result<()> {
    match numbers(&(x.detach() * 0.0)?.sum_all()?)?[..] {
        [0.0] => Ok(()),
        _ => finite(what, &numbers(x)?),
    }
}

/// The numbers in a precision that can add them up, in which sums, norms and softmax are worked out: `f64` as they are, all others
/// in `f32`. Differentiable.
pub(crate) fn at_least_single(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.dtype() == DType::F64 { Ok(x.clone()) } else { x.to_dtype(DType::F32) }
}

/// The mean over some axes, which stay, of length one. Numbers of half precision are added up in `f32`: of some thousand of them,
/// a sum in their own precision is far off. Differentiable.
pub(crate) fn mean_over<A: Dims>(x: &Tensor, axes: A) -> Result<Tensor> {
    Ok(at_least_single(x)?.mean_keepdim(axes)?.to_dtype(x.dtype())?)
}

/// f of every tensor, in their order: on the CPU by all cores, elsewhere from the thread that asks.
pub(crate) fn of_each<T: Send>(tensors: &[Tensor], f: impl Fn(&Tensor) -> Result<T> + Send + Sync) -> Result<Vec<T>> {
    match tensors.iter().all(|x| x.device().is_cpu()) {
        true => tensors.par_iter().map(f).collect(),
        false => tensors.iter().map(f).collect(),
    }
}

/// `(…,h,w) → (…,y,x)`: each column times `rows`, `(y,h)`, and each row times `columns`, `(x,w)`.
pub(crate) fn along_rows_and_columns(map: &Tensor, rows: Vec<f64>, columns: Vec<f64>) -> Result<Tensor> {
    let wide = along_last(map, columns)?;
    Ok(along_last(&wide.transpose(D::Minus1, D::Minus2)?, rows)?.transpose(D::Minus1, D::Minus2)?.contiguous()?)
}

/// `(…,a) → (…,b)`: the last axis times `weights`, `(b,a)`.
fn along_last(x: &Tensor, weights: Vec<f64>) -> Result<Tensor> {
    let weights = Tensor::from_vec(weights, ((), x.dim(D::Minus1)?), &Device::Cpu)?;
    let weights = weights.to_dtype(x.dtype())?.to_device(x.device())?;
    Ok(x.contiguous()?.broadcast_matmul(&weights.t()?)?)
}

/// Σ over rows of equal length, column by column.
pub(crate) fn column_sums(rows: &[Vec<f64>]) -> Vec<f64> {
    let columns = rows.first().map_or(0, Vec::len);
    (0..columns).map(|i| rows.iter().map(|row| row[i]).sum()).collect()
}

/// Errors if a value is NaN or infinite.
pub(crate) fn finite(what: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(position) => Err(Error::NotFinite { what: what.into(), found: values[position], position }),
    }
}

/// Errors if the tensor holds integers, between which there is no way to go.
pub(crate) fn floating(x: &Tensor) -> Result<()> {
    let dtype = x.dtype();
    match dtype.is_float() {
        true => Ok(()),
        false => Err(Error::argument(format!(
            "the input holds {dtype:?} numbers: write 1.0 instead of 1, or use `.to_dtype(DType::F32)`"
        ))),
    }
}

/// The precision to add up in: `f64` where the device has it.
pub(crate) fn wide(x: &Tensor) -> DType {
    if x.device().is_metal() { DType::F32 } else { DType::F64 }
}
