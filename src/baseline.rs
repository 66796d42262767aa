//! Baselines for images: what a picture looks like with nothing in it. (For text: [`Baseline`](crate::model::Baseline).)

use candle_core::{D, Tensor};

use crate::saliency::Noise;
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
    if image.rank() != 3 {
        return Err(Error::shape("the image", "(c, h, w)", image.dims()));
    }
    if !sigma.is_finite() || sigma <= 0.0 {
        return Err(Error::argument(format!("the blur's σ must be a positive number of pixels, got {sigma}")));
    }
    let along_rows = smooth(image, sigma)?;
    Ok(smooth(&along_rows.transpose(1, 2)?, sigma)?.transpose(1, 2)?.contiguous()?)
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
    Ok((noise.draw(&mut noise.rng()?, like, 1)?.squeeze(0)? + mean)?)
}

/// Convolves the last axis with a Gaussian, as a product with the matrix of its weights.
fn smooth(image: &Tensor, sigma: f64) -> Result<Tensor> {
    let width = image.dim(D::Minus1)?;
    let radius = (3.0 * sigma).ceil() as isize;
    let mut weights = vec![0.0; width * width];
    for to in 0..width {
        for offset in -radius..=radius {
            let from = (to as isize + offset).clamp(0, width as isize - 1) as usize;
            weights[from * width + to] += (-0.5 * (offset as f64 / sigma).powi(2)).exp();
        }
        let total: f64 = (0..width).map(|from| weights[from * width + to]).sum();
        (0..width).for_each(|from| weights[from * width + to] /= total);
    }
    let weights = Tensor::from_vec(weights, (width, width), image.device())?.to_dtype(image.dtype())?;
    Ok(image.contiguous()?.broadcast_matmul(&weights)?)
}
