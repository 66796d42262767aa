//! Frozen matrices: as numbers, or quantised and unpacked one at a time.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::matrix::Real;
use super::stage::{View, view};

/// A frozen matrix `(d,c)`.
///
/// A quantised one keeps its size in memory. Where it is needed, in a forward or a backward, it is unpacked, used and
/// dropped, so that at any time only one matrix is there in full; the gradient is that of the unpacked numbers, exactly.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::candle_core::quantized::{GgmlDType, QTensor};
/// use pellucid::model::blocks::Weight;
/// let numbers = Tensor::ones((4, 32), DType::F32, &Device::Cpu)?;
/// let packed = Weight::Quantised(QTensor::quantize(&numbers, GgmlDType::Q8_0)?.into(), DType::F32);
/// assert!(packed.is_packed() && packed.bytes() * 3 < Weight::Dense(numbers.clone()).bytes());
/// assert!((packed.dense()? - numbers)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-3);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone)]
pub enum Weight {
    /// Numbers of the model's precision.
    Dense(Tensor),
    /// Blocks of a few bits per number, and the precision to unpack them to.
    Quantised(Arc<QTensor>, DType),
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense(weight) => write!(f, "{:?} {:?}", weight.dims(), weight.dtype()),
            Self::Quantised(weight, _) => write!(f, "{:?} {:?}", weight.shape(), weight.dtype()),
        }
    }
}

impl Weight {
    /// Its shape.
    pub fn dims(&self) -> &[usize] {
        match self {
            Self::Dense(weight) => weight.dims(),
            Self::Quantised(weight, _) => weight.shape().dims(),
        }
    }

    /// Where it is.
    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Dense(weight) => weight.device().clone(),
            Self::Quantised(weight, _) => weight.device(),
        }
    }

    /// Whether it is packed into fewer bits than a plain number takes.
    pub fn is_packed(&self) -> bool {
        use GgmlDType::{BF16, F16, F32};
        matches!(self, Self::Quantised(weight, _) if !matches!(weight.dtype(), F32 | F16 | BF16))
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Self::Quantised(weight, _) => weight.storage_size_in_bytes(),
        }
    }

    /// The whole matrix as a tensor.
    pub fn dense(&self) -> candle_core::Result<Tensor> {
        match self {
            Self::Dense(weight) => Ok(weight.clone()),
            Self::Quantised(weight, dtype) => weight.dequantize(&weight.device())?.to_dtype(*dtype),
        }
    }

    /// Some of its rows, `(t,c)`.
    pub fn rows(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        match self {
            Self::Dense(weight) => weight.index_select(&Tensor::new(ids, weight.device())?, 0),
            Self::Quantised(weight, dtype) => weight.embedding(&Tensor::new(ids, &weight.device())?)?.to_dtype(*dtype),
        }
    }

    /// Its numbers, row by row, on the CPU.
    pub(super) fn numbers<T: Real>(&self) -> candle_core::Result<Numbers<'_, T>> {
        match self {
            Self::Dense(weight) => Ok(Numbers::Borrowed(view(weight)?)),
            Self::Quantised(weight, _) => {
                let unpacked = weight.dequantize(&Device::Cpu)?.to_dtype(T::DTYPE)?;
                Ok(Numbers::Unpacked(unpacked.flatten_all()?.to_vec1()?))
            }
        }
    }
}

/// A matrix's numbers, borrowed or unpacked.
pub(super) enum Numbers<'a, T> {
    Borrowed(View<'a, T>),
    Unpacked(Vec<T>),
}

impl<T: Real> Deref for Numbers<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Borrowed(view) => view,
            Self::Unpacked(numbers) => numbers,
        }
    }
}
