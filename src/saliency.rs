//! Explanations from gradients at, or around, one point.

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::attribution::Attribution;
use crate::grad::each_gradient;
use crate::integrated_gradients::fitting;
use crate::progress::Progress;
use crate::tensor::{column_sums, floating, numbers, wide};
use crate::{Error, Result};

/// Gaussian noise to add to an input: σ in the input's own unit, a number of draws, and their seed.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64, -2.0], &Device::Cpu)?;
/// let smooth = |seed| smooth_grad(|x| Ok(x.sqr()?.sum(1)?), &x, &Noise::new(0.1, 20, seed));
/// assert_eq!(smooth(7)?.scores, smooth(7)?.scores);     // same seed, same draws
/// assert!((smooth(7)?.scores[0] - 2.0).abs() < 0.2);    // around the gradient, 2x
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Standard deviation, absolute, in the input's unit.
    pub sigma: f64,
    /// How many noisy copies.
    pub draws: usize,
    /// Same seed, same draws.
    pub seed: u64,
}

impl Noise {
    /// Gaussian noise of standard deviation `sigma`, `draws` times, from `seed`.
    pub fn new(sigma: f64, draws: usize, seed: u64) -> Self {
        Self { sigma, draws, seed }
    }

    /// Draws number `from..from + count` of noise for x, `(count,…)`, on x's device, in x's precision.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng, x: &Tensor, count: usize) -> Result<Tensor> {
        floating(x)?;
        let mut shape = vec![count];
        shape.extend(x.dims());
        let normal = |_| self.sigma * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, rng);
        let noise: Vec<f64> = (0..count * x.elem_count()).map(normal).collect();
        Ok(Tensor::from_vec(noise, shape, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?)
    }

    /// Scores that noise went into, with what it was.
    pub(crate) fn note(&self, attribution: Attribution) -> Attribution {
        let attribution = Attribution { seed: Some(self.seed), ..attribution };
        attribution.setting("σ", self.sigma).setting("draws", self.draws)
    }

    pub(crate) fn rng(&self) -> Result<ChaCha8Rng> {
        match self {
            Self { draws: 0, .. } => Err(Error::argument("noise needs at least one draw")),
            Self { sigma, .. } if !sigma.is_finite() || *sigma < 0.0 => {
                Err(Error::argument(format!("σ must be a number ≥ 0, got {sigma}")))
            }
            _ => Ok(ChaCha8Rng::seed_from_u64(self.seed)),
        }
    }
}

/// `f: (n,…) → (n,)` or `(n,o)`, x `(…)` → ∇f(x) (Simonyan et al. 2013, arXiv 1312.6034, §3, with its sign).
///
/// Errors: those of [`grad_at`](crate::grad_at).
///
/// **When it misleads**: where f is flat, as after saturation, the gradient is zero however much the feature mattered.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[3.0f64, 5.0], &Device::Cpu)?;
/// let product = |x: &Tensor| Ok((x.narrow(1, 0, 1)? * x.narrow(1, 1, 1)?)?.squeeze(1)?);
/// assert_eq!(gradient(product, &x)?.scores, [5.0, 3.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn gradient(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<Attribution> {
    of_gradients("gradient", &f, x, &|gradient| Ok(gradient.clone()))
}

/// `f: (n,…) → (n,)` or `(n,o)`, x `(…)` → x · ∇f(x) (Shrikumar et al. 2016, arXiv 1605.01713).
///
/// Errors: those of [`grad_at`](crate::grad_at).
///
/// **When it misleads**: it is the first step of Integrated Gradients from zero, taken for the whole way: exact for
/// linear f, and for others without a law.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[3.0f64, 5.0], &Device::Cpu)?;
/// assert_eq!(gradient_x_input(|x| Ok((x.sum(1)? * 2.0)?), &x)?.scores, [6.0, 10.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn gradient_x_input(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<Attribution> {
    of_gradients("gradient × input", &f, x, &|gradient| Ok((x * gradient)?))
}

/// Scores made of the gradient at x of every output, and of their sum.
fn of_gradients(
    method: &str,
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    scores: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<Attribution> {
    let mut outputs: Vec<Vec<f64>> = Vec::new();
    let several = each_gradient(f, &x.unsqueeze(0)?, &mut |_, gradient| {
        outputs.push(numbers(&scores(&gradient.squeeze(0)?)?)?);
        Ok(())
    })?;
    Attribution::of_outputs(method, x.dims(), column_sums(&outputs), if several { outputs } else { Vec::new() })
}

/// `f: (n,…) → (n,)` or `(n,o)`, x `(…)` → E[∇f(x + ε)], ε ~ N(0, σ²) (Smilkov et al. 2017, arXiv 1706.03825, §2.2).
///
/// Errors: those of [`grad_at`](crate::grad_at); no draws; a negative σ.
///
/// **When it misleads**: the larger σ, the more it explains inputs that are noise; and where f saturates all around x, it is as
/// blind as [`gradient`].
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64], &Device::Cpu)?;
/// let smooth = smooth_grad(|x| Ok(x.sqr()?.sum(1)?), &x, &Noise::new(0.1, 500, 0))?;
/// assert!((smooth.scores[0] - 2.0).abs() < 0.05);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn smooth_grad(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, noise: &Noise) -> Result<Attribution> {
    noisy("SmoothGrad", &f, x, noise, &|moments| Ok(moments.mean.clone()))
}

/// `f: (n,…) → (n,)` or `(n,o)`, x `(…)` → E[∇f(x + ε)²], element by element (Hooker et al. 2019, arXiv 1806.10758, §4.1).
/// Unsigned.
///
/// Errors: those of [`smooth_grad`].
///
/// **When it misleads**: it says where f is steep and not which way, so what speaks against the target is as bright as what
/// speaks for it; and squares make of few large slopes the whole picture.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64], &Device::Cpu)?;
/// assert_eq!(smooth_grad_squared(|x| Ok((x.sum(1)? * 3.0)?), &x, &Noise::new(0.1, 5, 0))?.scores, [9.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn smooth_grad_squared(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, noise: &Noise) -> Result<Attribution> {
    noisy("SmoothGrad²", &f, x, noise, &|moments| Ok((moments.mean.sqr()? + moments.variance()?)?))
}

/// `f: (n,…) → (n,)` or `(n,o)`, x `(…)` → Var[∇f(x + ε)] = E[(∇f(x + ε) − E[∇f(x + ε)])²], element by element (Adebayo et al.
/// 2018, arXiv 1810.03307). Unsigned.
///
/// Errors: those of [`smooth_grad`].
///
/// **When it misleads**: it is zero wherever the gradient is constant, so a linear model gets no explanation at all.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64], &Device::Cpu)?;
/// assert!(var_grad(|x| Ok((x.sum(1)? * 3.0)?), &x, &Noise::new(0.1, 5, 0))?.scores[0].abs() < 1e-12);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn var_grad(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, noise: &Noise) -> Result<Attribution> {
    noisy("VarGrad", &f, x, noise, &Moments::variance)
}

/// Scores made of the moments of every output's gradient at noisy copies of x, and of those of their sum's.
fn noisy(
    method: &str,
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    noise: &Noise,
    scores: &dyn Fn(&Moments) -> Result<Tensor>,
) -> Result<Attribution> {
    let (sum, outputs) = moments(f, x, noise)?;
    let scores = |moments: &Moments| numbers(&scores(moments)?);
    let outputs = outputs.iter().map(scores).collect::<Result<_>>()?;
    Ok(noise.note(Attribution::of_outputs(method, x.dims(), scores(&sum)?, outputs)?))
}

/// Of the gradient of the outputs' sum, and of each output's if f has several, `(n,o)`.
fn moments(f: &dyn Fn(&Tensor) -> Result<Tensor>, x: &Tensor, noise: &Noise) -> Result<(Moments, Vec<Moments>)> {
    let (mut rng, mut progress) = (noise.rng()?, Progress::new("noisy gradients", noise.draws));
    let (mut of_sum, mut of_each, mut several) = (Moments::none(x)?, Vec::new(), false);
    let chunk = fitting(x);
    for start in (0..noise.draws).step_by(chunk) {
        let count = chunk.min(noise.draws - start);
        let mut sum = None;
        several = each_gradient(f, &noise.draw(&mut rng, x, count)?.broadcast_add(x)?, &mut |output, gradients| {
            let gradients = gradients.to_dtype(wide(x))?;
            if output == of_each.len() {
                of_each.push(Moments::none(x)?);
            }
            of_each[output].add(&gradients)?;
            sum = Some(sum.take().map_or(Ok(gradients.clone()), |sum: Tensor| sum + gradients)?);
            Ok(())
        })?;
        if let (true, Some(sum)) = (several, &sum) {
            of_sum.add(sum)?;
        }
        progress.advance(count);
    }
    match of_each.iter().all(|moments| moments.draws == noise.draws) {
        true if several => Ok((of_sum, of_each)),
        true => Ok((of_each.pop().unwrap_or(of_sum), of_each)),
        false => Err(Error::argument("the function has more outputs for some inputs than for others")),
    }
}

/// Mean and variance of a gradient over the draws so far, in `f64`: without the cancellation of E[g²] − E[g]², so that no
/// variance is below 0 (Chan, Golub & LeVeque 1983).
struct Moments {
    draws: usize,
    mean: Tensor,
    /// Σ (g − mean)².
    scatter: Tensor,
}

impl Moments {
    fn none(x: &Tensor) -> Result<Self> {
        let zero = x.to_dtype(wide(x))?.zeros_like()?;
        Ok(Self { draws: 0, mean: zero.clone(), scatter: zero })
    }

    /// With more draws, `(m,…)`.
    fn add(&mut self, gradients: &Tensor) -> Result<()> {
        let (before, more) = (self.draws as f64, gradients.dim(0)? as f64);
        let mean = gradients.mean(0)?;
        let (inside, apart) = (gradients.broadcast_sub(&mean)?.sqr()?.sum(0)?, (&mean - &self.mean)?);
        self.draws += gradients.dim(0)?;
        self.mean = (&self.mean + (&apart * (more / (before + more)))?)?;
        self.scatter = ((&self.scatter + inside)? + (apart.sqr()? * (before * more / (before + more)))?)?;
        Ok(())
    }

    fn variance(&self) -> Result<Tensor> {
        Ok((&self.scatter / self.draws as f64)?)
    }
}
