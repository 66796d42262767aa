//! What is added to an input, or taken off it, to see whether an explanation holds.

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::path::same_space;
use crate::saliency::Noise;
use crate::tensor::floating;
use crate::{Error, Result};

/// x `(…)` → `(n,…)`: Gaussian noise N(0, σ²).
///
/// Errors: no draws; a negative σ; integers.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::noise_perturbations;
/// let x = Tensor::zeros((3, 2), DType::F64, &Device::Cpu)?;
/// let noise = noise_perturbations(&x, &Noise::new(0.1, 500, 0))?;    // (n,…)
/// let sigma = noise.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt();
/// assert!(noise.dims() == [500, 3, 2] && (sigma - 0.1).abs() < 0.01);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn noise_perturbations(x: &Tensor, noise: &Noise) -> Result<Tensor> {
    noise.draw(&mut noise.rng()?, x, noise.draws)
}

/// x `(…)` → `(n,…)`: every element uniform between −radius and radius, the cube around x that max-sensitivity looks at (arXiv
/// 1901.09392; Captum's default).
///
/// Errors: no draws; a radius that is not positive, or so large that a cube twice as wide is not finite; integers.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::ball_perturbations;
/// let cube = ball_perturbations(&Tensor::zeros((3, 2), DType::F64, &Device::Cpu)?, 0.02, 50, 0)?;
/// let farthest = cube.abs()?.max_all()?.to_scalar::<f64>()?;
/// assert!(cube.dims() == [50, 3, 2] && farthest <= 0.02 && farthest > 0.019);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn ball_perturbations(x: &Tensor, radius: f64, draws: usize, seed: u64) -> Result<Tensor> {
    floating(x)?;
    if draws == 0 || radius <= 0.0 || !(2.0 * radius).is_finite() {
        return Err(Error::argument(format!(
            "at least one draw of a positive and finite radius is needed; got {draws} of {radius}"
        )));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..draws * x.elem_count()).map(|_| rng.random_range(-radius..=radius)).collect();
    let cube = Tensor::from_vec(values, [&[draws], x.dims()].concat(), &Device::Cpu)?;
    Ok(cube.to_dtype(x.dtype())?.to_device(x.device())?)
}

/// A picture `(c,h,w)`, a baseline `(c,h,w)` → `(n,c,h,w)`: x − x′ within a square of `side` pixels somewhere in the picture, and
/// 0 outside, so that x − I has the square removed (arXiv 1901.09392, «square removal»).
///
/// Errors: not `(c,h,w)`; a baseline of another shape; no draws; a square of no pixels, or larger than the picture.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::square_perturbations;
/// let x = Tensor::ones((3, 8, 8), DType::F64, &Device::Cpu)?;
/// let squares = square_perturbations(&x, &x.zeros_like()?, 4, 10, 0)?;             // (n,c,h,w)
/// assert_eq!(squares.sum((1, 2, 3))?.to_vec1::<f64>()?, [3.0 * 4.0 * 4.0; 10]);    // all of x within each
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn square_perturbations(x: &Tensor, baseline: &Tensor, side: usize, draws: usize, seed: u64) -> Result<Tensor> {
    same_space(x, baseline)?;
    let &[_, height, width] = x.dims() else { return Err(Error::shape("the picture", "(c, h, w)", x.dims())) };
    if draws == 0 || side == 0 || side > height.min(width) {
        return Err(Error::argument(format!(
            "at least one square is needed, of 1 to {} pixels a side; got {draws} of {side}",
            height.min(width)
        )));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut square = || {
        let (top, left) = (rng.random_range(0..=height - side), rng.random_range(0..=width - side));
        let inside = move |y: usize, x: usize| (top..top + side).contains(&y) && (left..left + side).contains(&x);
        (0..height * width).map(move |i| f64::from(u8::from(inside(i / width, i % width))))
    };
    let squares: Vec<f64> = (0..draws).flat_map(|_| square().collect::<Vec<_>>()).collect();
    let squares = Tensor::from_vec(squares, (draws, 1, height, width), &Device::Cpu)?;
    Ok(squares.to_dtype(x.dtype())?.to_device(x.device())?.broadcast_mul(&(x - baseline)?.unsqueeze(0)?)?)
}
