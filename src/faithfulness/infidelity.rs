//! Whether scores foretell what perturbations do, and whether they stay where the input hardly changes.
//!
//! Yeh et al., *On the (In)fidelity and Sensitivity of Explanations*, 2019, arXiv 1901.09392.

use candle_core::Tensor;

use crate::attribution::Attribution;
use crate::outcomes::{Outcomes, batch};
use crate::progress::Progress;
use crate::tensor::{finite, numbers};
use crate::{Error, Result};

/// `f: (n,…) → (n,)`, x `(…)`, scores over x's elements, perturbations I `(n,…)` → the mean of
/// (⟨I, scores⟩ − (f(x) − f(x − I)))²: the infidelity (arXiv 1901.09392, definition 2.1). 0 is best.
///
/// What it asks depends on I. [`noise_perturbations`](super::noise_perturbations) ask for a gradient; x − x′ as a whole asks for
/// completeness, and [`square_perturbations`](super::square_perturbations) for that of every square. Scores are per unit of I, as
/// a gradient is: those of Integrated Gradients are to be divided by x − x′ first. Where x = x′ both are 0: put 0 there, and let
/// I be 0 there too, as squares of x − x′ are; of noise there, Integrated Gradients foretell nothing.
///
/// Errors: not a finite score per element of x; x has none; perturbations of another shape, or none; f's output is not one finite
/// number per row.
///
/// **When it misleads**: it compares numbers, not ranks, so a map that is right but for its scale fails:
/// [`infidelity_rescaled`] takes the best scale first.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{infidelity, noise_perturbations};
/// let x = Tensor::new(&[1.0f64, -2.0], &Device::Cpu)?;
/// let linear = |x: &Tensor| Ok((x.narrow(1, 0, 1)? + (x.narrow(1, 1, 1)? * 3.0)?)?.squeeze(1)?);
/// let noise = noise_perturbations(&x, &Noise::new(0.5, 50, 0))?;
/// assert!(infidelity(linear, &x, &gradient(linear, &x)?, &noise)? < 1e-12);
/// assert!(infidelity(linear, &x, &gradient_x_input(linear, &x)?, &noise)? > 1.0);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn infidelity(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    why: &Attribution,
    perturbations: &Tensor,
) -> Result<f64> {
    let pairs = foretold(&f, x, why, perturbations)?;
    Ok(mean_square_gap(&pairs, 1.0))
}

/// The same for scores times the factor that makes it least, β = Σ⟨I, scores⟩·Δf / Σ⟨I, scores⟩²: for maps that have no unit,
/// such as attention's. Captum's `normalize=True`. If scores are all 0 they foretell nothing, and β is 1.
///
/// Errors: those of [`infidelity`].
///
/// **When it misleads**: β may be negative, so a map with every sign turned passes as well as the right one.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{infidelity_rescaled, noise_perturbations};
/// let x = Tensor::new(&[1.0f64, -2.0], &Device::Cpu)?;
/// let linear = |x: &Tensor| Ok((x.narrow(1, 0, 1)? + (x.narrow(1, 1, 1)? * 3.0)?)?.squeeze(1)?);
/// let thrice = gradient(|x| Ok((linear(x)? * 3.0)?), &x)?;    // right but for its scale
/// let noise = noise_perturbations(&x, &Noise::new(0.5, 50, 0))?;
/// assert!(infidelity_rescaled(linear, &x, &thrice, &noise)? < 1e-12);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn infidelity_rescaled(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    why: &Attribution,
    perturbations: &Tensor,
) -> Result<f64> {
    let pairs = foretold(&f, x, why, perturbations)?;
    let size: f64 = pairs.iter().map(|(foretold, _)| foretold * foretold).sum();
    let product: f64 = pairs.iter().map(|(foretold, fell)| foretold * fell).sum();
    Ok(mean_square_gap(&pairs, if size > 0.0 { product / size } else { 1.0 }))
}

fn mean_square_gap(pairs: &[(f64, f64)], scale: f64) -> f64 {
    pairs.iter().map(|(foretold, fell)| (scale * foretold - fell).powi(2)).sum::<f64>() / pairs.len() as f64
}

/// For every perturbation, by how much the scores say that f falls, and by how much it does.
fn foretold(
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    why: &Attribution,
    perturbations: &Tensor,
) -> Result<Vec<(f64, f64)>> {
    let count = check(x, perturbations)?;
    if why.scores.len() != x.elem_count() {
        let wanted = format!("{:?}, one per element of x", x.dims());
        return Err(Error::shape("the scores", wanted, &[why.scores.len()]));
    }
    finite("a score", &why.scores)?;
    let outcomes = Outcomes::of(f, "infidelity, perturbations", count + 1, batch(x), &|range| {
        let point = |variant: usize| match variant {
            0 => Ok(x.clone()),
            _ => Ok((x - perturbations.get(variant - 1)?)?),
        };
        Ok(Tensor::stack(&range.map(point).collect::<Result<Vec<_>>>()?, 0)?)
    })?;
    let values = outcomes.sum();
    let product = |moved: &[f64]| moved.iter().zip(&why.scores).map(|(moved, score)| moved * score).sum::<f64>();
    let products = numbers(perturbations)?;
    let foretold = products.chunks(x.elem_count()).map(product);
    Ok(foretold.zip(values[1..].iter().map(|value| values[0] - value)).collect())
}

/// How many perturbations there are.
fn check(x: &Tensor, perturbations: &Tensor) -> Result<usize> {
    if x.elem_count() == 0 {
        return Err(Error::argument("x has no elements, so there is nothing to perturb"));
    }
    match perturbations.dims() {
        [n, rest @ ..] if *n > 0 && rest == x.dims() => Ok(*n),
        other => Err(Error::shape("the perturbations", format!("(n, …) with {:?}", x.dims()), other)),
    }
}

/// A method as a function of x `(…)`, perturbations `(n,…)` → the greatest ‖φ(x + δ) − φ(x)‖ / ‖φ(x)‖ over them, with φ(x) as the
/// scores at x: the max-sensitivity (arXiv 1901.09392, definition 3.1), as a share of ‖φ(x)‖ as Captum has it.
///
/// Perturbations are usually [`ball_perturbations`](super::ball_perturbations) of a small radius. If all of φ(x) is 0, the change
/// itself is taken.
///
/// Errors: perturbations of another shape, or none; x has no elements; those of the method; another number of scores at another
/// x; a score that is not finite.
///
/// **When it misleads**: a map that is the same for all inputs is perfectly insensitive: 0 is best, or blind. It takes a whole
/// explanation per perturbation.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{ball_perturbations, max_sensitivity};
/// let x = Tensor::new(&[1.0f64, 1.0], &Device::Cpu)?;
/// let square = |x: &Tensor| Ok(x.sqr()?.sum(1)?);
/// let near = ball_perturbations(&x, 0.1, 50, 0)?;
/// let sensitivity = max_sensitivity(|x| gradient(square, x), &x, &near)?; // ‖2δ‖/‖2x‖
/// assert!(sensitivity > 0.08 && sensitivity <= 0.1);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn max_sensitivity(
    explain: impl Fn(&Tensor) -> Result<Attribution>,
    x: &Tensor,
    perturbations: &Tensor,
) -> Result<f64> {
    let scores = |x: &Tensor| {
        let scores = explain(x)?.scores;
        finite("a score", &scores).map(|()| scores)
    };
    let (count, at_x) = (check(x, perturbations)?, scores(x)?);
    let mut progress = Progress::new("max-sensitivity, explanations", count);
    let size = norm(&at_x);
    let mut most = 0.0f64;
    for i in 0..count {
        let there = scores(&(x + perturbations.get(i)?)?)?;
        if there.len() != at_x.len() {
            return Err(Error::shape("the scores", format!("({},), as at x", at_x.len()), &[there.len()]));
        }
        let change: Vec<f64> = there.iter().zip(&at_x).map(|(there, here)| there - here).collect();
        most = most.max(norm(&change) / if size > 0.0 { size } else { 1.0 });
        progress.advance(1);
    }
    Ok(most)
}

fn norm(scores: &[f64]) -> f64 {
    scores.iter().map(|score| score * score).sum::<f64>().sqrt()
}
