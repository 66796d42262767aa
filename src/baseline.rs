//! Baselines for images: what a picture looks like with nothing in it. (For text: [`Baseline`](crate::model::Baseline).)

use candle_core::Tensor;

use crate::saliency::Noise;
use crate::tensor::{along_rows_and_columns, finite, floating, mean_over};
use crate::{Error, Result};

/// `(c,h,w) → (c,h,w)`: the image behind a Gaussian blur of standard deviation `sigma` pixels; edges are repeated.
///
/// What is blurred away is what attributions to the blurred image explain: detail, not colour.
///
/// Errors: not `(c,h,w)`; σ that is not positive.
///
/// ```
/// # use pellucid::prelude::*;
/// let flat = Tensor::full(0.5f64, (3, 8, 8), &Device::Cpu)?;
/// let difference = (pellucid::baseline::blurred(&flat, 2.0)? - &flat)?.abs()?.max_all()?.to_scalar::<f64>()?;
/// assert!(difference < 1e-12);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn blurred(image: &Tensor, sigma: f64) -> Result<Tensor> {
    picture(image)?;
    if !sigma.is_finite() || sigma <= 0.0 {
        return Err(Error::argument(format!("the blur's σ must be a positive number of pixels, got {sigma}")));
    }
    let (_, height, width) = image.dims3()?;
    along_rows_and_columns(image, gaussian(height, sigma), gaussian(width, sigma))
}

/// `(…) → (…)`: one value everywhere: 0 is black and 1 is white for pixels between them; 0 is the data's mean for pixels
/// that are normalised.
///
/// Errors: integers; a value that is not finite.
///
/// **When it misleads**: what has the baseline's own colour is not explained. To a black baseline a black cat is nothing.
///
/// ```
/// # use pellucid::prelude::*;
/// let image = Tensor::zeros((3, 4, 4), DType::F32, &Device::Cpu)?;
/// let white = pellucid::baseline::flat(&image, 1.0)?;
/// assert_eq!(white.mean_all()?.to_scalar::<f32>()?, 1.0);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn flat(like: &Tensor, value: f64) -> Result<Tensor> {
    floating(like)?;
    finite("the baseline's value", &[value])?;
    Ok((like.zeros_like()? + value)?)
}

/// `(c,h,w) → (c,h,w)`: each channel's mean over the picture, everywhere.
///
/// Errors: not `(c,h,w)`; integers.
///
/// ```
/// # use pellucid::prelude::*;
/// let image = Tensor::new(&[[[0.0f64, 1.0]], [[0.2, 0.6]]], &Device::Cpu)?;
/// assert_eq!(pellucid::baseline::mean_colour(&image)?.to_vec3::<f64>()?, [[[0.5, 0.5]], [[0.4, 0.4]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn mean_colour(image: &Tensor) -> Result<Tensor> {
    picture(image)?;
    Ok(mean_over(image, (1, 2))?.broadcast_as(image.shape())?.contiguous()?)
}

/// Errors unless it is `(c,h,w)`, and not integers.
fn picture(image: &Tensor) -> Result<()> {
    if image.rank() != 3 {
        return Err(Error::shape("the image", "(c, h, w)", image.dims()));
    }
    floating(image)
}

/// `(…) → (…)`: Gaussian noise of standard deviation `sigma` around `mean`, of the shape of another tensor.
///
/// Errors: integers; a negative σ.
///
/// ```
/// # use pellucid::prelude::*;
/// let image = Tensor::zeros((3, 4, 4), DType::F64, &Device::Cpu)?;
/// let noise = pellucid::baseline::noise(&image, 0.5, 0.1, 7)?;
/// assert_eq!(noise.dims(), [3, 4, 4]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn noise(like: &Tensor, mean: f64, sigma: f64, seed: u64) -> Result<Tensor> {
    let noise = Noise::new(sigma, 1, seed);
    finite("the noise's mean", &[mean])?;
    Ok((noise.draw(&mut noise.rng()?, like, 1)?.squeeze(0)? + mean)?)
}

/// `(n,n)` row by row: the weights of old pixels in each new one, a Gaussian of standard deviation σ that sums to one.
fn gaussian(n: usize, sigma: f64) -> Vec<f64> {
    let radius = (3.0 * sigma).ceil() as isize;
    let mut weights = vec![0.0; n * n];
    for (to, row) in weights.chunks_mut(n.max(1)).enumerate() {
        for offset in -radius..=radius {
            let from = (to as isize + offset).clamp(0, n as isize - 1) as usize;
            row[from] += (-0.5 * (offset as f64 / sigma).powi(2)).exp();
        }
        let total: f64 = row.iter().sum();
        row.iter_mut().for_each(|weight| *weight /= total);
    }
    weights
}
