//! A map as a mask: the look of published rollout figures.

use candle_core::{D, DType, Device, Tensor};

use super::ends;
use crate::tensor::{finite, floating, numbers};
use crate::{Error, Result};

/// `(…) → (…)`: (x − min)/(max − min), between 0 and 1; all 0 where all are the same.
///
/// Errors: integers; nothing; a value that is not finite.
///
/// ```
/// # use pellucid::prelude::*;
/// let map = Tensor::new(&[1.0f64, 2.0, 5.0], &Device::Cpu)?;
/// assert_eq!(pellucid::show::min_max(&map)?.to_vec1::<f64>()?, [0.0, 0.25, 1.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn min_max(map: &Tensor) -> Result<Tensor> {
    floating(map)?;
    let values = numbers(map)?;
    finite("the map", &values)?;
    if values.is_empty() {
        return Err(Error::shape("the map", "at least one value", map.dims()));
    }
    let (low, high) = ends(values.iter().copied());
    let width = if high > low { high - low } else { 1.0 };
    let scaled: Vec<f64> = values.iter().map(|value| (value - low) / width).collect();
    Ok(Tensor::from_vec(scaled, map.shape(), &Device::Cpu)?.to_dtype(map.dtype())?.to_device(map.device())?)
}

/// `(3,h,w)`, `(h,w) → (3,h,w)`: where the map, brought to between 0 and 1 by [`min_max`], is strictly greater than the
/// threshold, red goes half way to 1; green and blue stay.
///
/// Errors: shapes that do not match; those of [`min_max`].
///
/// ```
/// # use pellucid::prelude::*;
/// let black = Tensor::zeros((3, 1, 2), DType::F64, &Device::Cpu)?;
/// let map = Tensor::new(&[[0.3f64, 0.7]], &Device::Cpu)?;
/// let red = pellucid::show::red_mask(&black, &map, 0.2)?;
/// assert_eq!(red.flatten_all()?.to_vec1::<f64>()?, [0.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn red_mask(pixels: &Tensor, map: &Tensor, threshold: f64) -> Result<Tensor> {
    if map.rank() != 2 || pixels.dims() != [&[3], map.dims()].concat() {
        return Err(Error::shape("the picture", format!("(3, h, w), with the map's {:?}", map.dims()), pixels.dims()));
    }
    let mask = min_max(&map.to_device(&Device::Cpu)?)?
        .to_dtype(DType::F64)?
        .gt(threshold)?
        .to_dtype(pixels.dtype())?
        .to_device(pixels.device())?;
    let red = pixels.get(0)?;
    let red = (&red + (mask * ((1.0 - &red)? * 0.5)?)?)?;
    Ok(Tensor::cat(&[red.unsqueeze(0)?, pixels.narrow(D::Minus(3), 1, 2)?], 0)?)
}
