//! The straight path from a baseline to an input, and the quadrature rules that integrate along it.

use std::fmt;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::tensor::{floating, wide};
use crate::{Error, Result};

/// A quadrature rule on `[0, 1]`: where to evaluate a function, and how much each value counts.
///
/// The weights of every rule sum to one, so that constants are integrated exactly. Errors fall, for a smooth integrand, as
/// 1/n for `Left` and `Right`, 1/n² for `Middle` and `Trapezoid`, and faster than any power for `GaussLegendre`, which
/// with n nodes integrates polynomials up to degree 2n − 1 exactly.
///
/// ```
/// # use pellucid::prelude::*;
/// for rule in Quadrature::ALL {
///     let (_, weights) = rule.nodes(8)?;
///     assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{rule}");
/// }
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quadrature {
    /// Nodes at the roots of the Legendre polynomial. The default: fewest evaluations for a smooth model.
    #[default]
    GaussLegendre,
    /// αₖ = k/n for k = 0 … n−1.
    Left,
    /// αₖ = k/n for k = 1 … n: the sum in Sundararajan et al. 2017, eq. 3.
    Right,
    /// αₖ = (k + ½)/n for k = 0 … n−1.
    Middle,
    /// αₖ = k/(n−1) for k = 0 … n−1, the two ends counting half. (Captum's version uses 1/n instead of 1/(n−1), so its
    /// weights sum to (n−1)/n and even a linear model comes out 2 % short at 50 steps.)
    Trapezoid,
}

impl Quadrature {
    /// Every rule, for comparisons.
    pub const ALL: [Self; 5] = [Self::GaussLegendre, Self::Left, Self::Right, Self::Middle, Self::Trapezoid];

    /// n → (nodes αₖ, weights wₖ), both `(n,)`, nodes ascending.
    ///
    /// Errors: `n = 0`; `n = 1` for the trapezoid, which needs both ends.
    ///
    /// ```
    /// # use pellucid::Quadrature;
    /// let (alphas, weights) = Quadrature::GaussLegendre.nodes(2)?;
    /// let integral_of_x_cubed: f64 = alphas.iter().zip(&weights).map(|(a, w)| w * a.powi(3)).sum();
    /// assert!((integral_of_x_cubed - 0.25).abs() < 1e-12);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn nodes(self, n: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let least = if self == Self::Trapezoid { 2 } else { 1 };
        if n < least {
            return Err(Error::argument(format!(
                "the {self} rule needs at least {least} step{}, got {n}",
                if least == 1 { "" } else { "s" }
            )));
        }
        let count = n as f64;
        let evenly = |first: f64, gap: f64| (0..n).map(|k| first + gap * k as f64).collect::<Vec<_>>();
        Ok(match self {
            Self::GaussLegendre => gauss_legendre(n),
            Self::Left => (evenly(0.0, 1.0 / count), vec![1.0 / count; n]),
            Self::Right => (evenly(1.0 / count, 1.0 / count), vec![1.0 / count; n]),
            Self::Middle => (evenly(0.5 / count, 1.0 / count), vec![1.0 / count; n]),
            Self::Trapezoid => {
                let gap = 1.0 / (count - 1.0);
                let mut weights = vec![gap; n];
                weights[0] /= 2.0;
                weights[n - 1] /= 2.0;
                (evenly(0.0, gap), weights)
            }
        })
    }
}

impl fmt::Display for Quadrature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GaussLegendre => "Gauss–Legendre",
            Self::Left => "left",
            Self::Right => "right",
            Self::Middle => "middle",
            Self::Trapezoid => "trapezoid",
        })
    }
}

/// Roots x of the Legendre polynomial Pₙ by Newton's method, moved to `[0, 1]`, with weights 1/((1 − x²)·Pₙ′(x)²).
fn gauss_legendre(n: usize) -> (Vec<f64>, Vec<f64>) {
    let node = |k: usize| {
        let mut x = -(std::f64::consts::PI * (k as f64 + 0.75) / (n as f64 + 0.5)).cos();
        for _ in 0..100 {
            let (p, slope) = legendre(n, x);
            x -= p / slope;
            if (p / slope).abs() < 1e-15 {
                break;
            }
        }
        let slope = legendre(n, x).1;
        (0.5 * (1.0 + x), 1.0 / ((1.0 - x * x) * slope * slope))
    };
    (0..n).map(node).unzip()
}

/// (Pₙ(x), Pₙ′(x)) by the recurrence k·Pₖ = (2k−1)·x·Pₖ₋₁ − (k−1)·Pₖ₋₂.
fn legendre(n: usize, x: f64) -> (f64, f64) {
    let (mut before, mut p) = (0.0, 1.0);
    for k in 1..=n {
        let k = k as f64;
        (before, p) = (p, ((2.0 * k - 1.0) * x * p - (k - 1.0) * before) / k);
    }
    (p, n as f64 * (x * p - before) / (x * x - 1.0))
}

/// `(…), (…) → (n,…)`: xₖ = x′ + αₖ·(x − x′), the points of the path (Sundararajan et al. 2017, eq. 1).
///
/// Errors: integers; a baseline of another shape or precision.
///
/// ```
/// # use pellucid::prelude::*;
/// let (zero, one) = (Tensor::zeros(2, DType::F64, &Device::Cpu)?, Tensor::ones(2, DType::F64, &Device::Cpu)?);
/// let path = interpolate(&zero, &one, &[0.0, 0.5, 1.0])?;
/// assert_eq!(path.to_vec2::<f64>()?, [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn interpolate(baseline: &Tensor, input: &Tensor, alphas: &[f64]) -> Result<Tensor> {
    floating(input)?;
    same_space(input, baseline)?;
    let mut column = vec![1; input.rank() + 1];
    column[0] = alphas.len();
    let alphas = row(alphas, input)?.reshape(column)?;
    Ok(alphas.broadcast_mul(&(input - baseline)?.unsqueeze(0)?)?.broadcast_add(&baseline.unsqueeze(0)?)?)
}

/// `(n,…) → (…)`: Σₖ wₖ·gₖ, a weighted sum over the leading axis, added up in `f64` where the device has it.
///
/// Errors: as many weights as rows are needed.
///
/// ```
/// # use pellucid::prelude::*;
/// let rows = Tensor::new(&[[1.0f64, 10.0], [3.0, 30.0]], &Device::Cpu)?;
/// assert_eq!(riemann_sum(&rows, &[0.5, 0.5])?.to_vec1::<f64>()?, [2.0, 20.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn riemann_sum(grads: &Tensor, weights: &[f64]) -> Result<Tensor> {
    let Some((&n, rest)) = grads.dims().split_first() else {
        return Err(Error::shape("grads", "(n, …)", grads.dims()));
    };
    if n != weights.len() {
        return Err(Error::shape("grads", format!("({}, …), one row per weight", weights.len()), grads.dims()));
    }
    let rows = grads.reshape((n, ()))?.to_dtype(wide(grads))?;
    let weights = row(weights, &rows)?.unsqueeze(0)?;
    Ok(weights.matmul(&rows)?.reshape(rest)?.to_dtype(grads.dtype())?)
}

/// Numbers as a `(n,)` tensor of the device and precision of another.
fn row(values: &[f64], like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())?)
}

/// The baseline must be a point of the input's space: of its shape, and of its precision.
pub(crate) fn same_space(input: &Tensor, baseline: &Tensor) -> Result<()> {
    let (wanted, got) = (input.dtype(), baseline.dtype());
    match input.dims() == baseline.dims() {
        false => Err(Error::shape("the baseline", format!("{:?}, the input's", input.dims()), baseline.dims())),
        true if wanted != got => Err(Error::argument(format!(
            "the baseline holds {got:?} numbers, the input {wanted:?}: use `baseline.to_dtype(x.dtype())`"
        ))),
        true if input.device().location() != baseline.device().location() => Err(Error::argument(
            "the baseline and the input live on different devices: use `baseline.to_device(x.device())`",
        )),
        true => Ok(()),
    }
}
