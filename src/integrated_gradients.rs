//! Integrated Gradients: IGᵢ(x) = (xᵢ − x′ᵢ) · ∫₀¹ ∂ᵢf(x′ + α(x − x′)) dα.
//!
//! Sundararajan, Taly & Yan, *Axiomatic Attribution for Deep Networks*, 2017, arXiv 1703.01365, eq. 1.

use candle_core::Tensor;

use crate::attribution::{Attribution, Completeness};
use crate::grad::each_gradient;
use crate::outcomes::Outcomes;
use crate::path::{Quadrature, interpolate, riemann_sum, same_space};
use crate::progress::Progress;
use crate::tensor::{column_sums, numbers};
use crate::{Error, Result};

/// How the path is cut: a rule, and a number of steps or a tolerance.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[2.0f64], &Device::Cpu)?;
/// let gap = |steps: Steps| -> Result<f64> {
///     let cube = |x: &Tensor| Ok((x.sqr()? * x)?.sum(1)?);
///     Ok(integrated_gradients(cube, &x, &x.zeros_like()?, &steps)?.completeness.unwrap().relative_gap)
/// };
/// assert!(gap(Steps::new(Quadrature::Left, 50))? > 0.01);
/// assert!(gap(Steps::gauss_legendre(2))? < 1e-12);    // exact for a cubic
/// assert!(gap(Steps::until(1e-6).chunk(4))? < 1e-6);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    /// The quadrature rule.
    pub quadrature: Quadrature,
    /// The number of steps; with a tolerance, that of the last attempt.
    pub count: usize,
    /// Refine, doubling the steps from 8, until the relative completeness gap is at most this.
    pub tolerance: Option<f64>,
    /// Points of the path per batch; chosen by the input's size and, on a CPU, the number of cores if `None`.
    pub chunk: Option<usize>,
}

impl Steps {
    /// A fixed number of steps of a rule.
    pub fn new(quadrature: Quadrature, count: usize) -> Self {
        Self { quadrature, count, tolerance: None, chunk: None }
    }

    /// A fixed number of Gauss–Legendre steps.
    pub fn gauss_legendre(count: usize) -> Self {
        Self::new(Quadrature::GaussLegendre, count)
    }

    /// As many Gauss–Legendre steps as a relative completeness gap of `tolerance` takes, 2048 at the most.
    pub fn until(tolerance: f64) -> Self {
        Self { tolerance: Some(tolerance), ..Self::gauss_legendre(2048) }
    }

    /// The same with at most `points` of the path in memory at a time.
    pub fn chunk(self, points: usize) -> Self {
        Self { chunk: Some(points), ..self }
    }

    /// The number of steps to try first.
    fn first(&self) -> usize {
        if self.tolerance.is_some() { self.count.min(8) } else { self.count }
    }

    fn check(&self) -> Result<()> {
        let bad_tolerance = self.tolerance.is_some_and(|t| t.is_nan() || t <= 0.0);
        match self {
            _ if bad_tolerance => Err(Error::argument("the tolerance must be a positive number, such as 1e-3")),
            Self { chunk: Some(0), .. } => Err(Error::argument("a chunk must hold at least one point of the path")),
            Self { tolerance: Some(_), count: 0..8, .. } => {
                Err(Error::argument("refining to a tolerance starts at 8 steps: allow at least so many"))
            }
            _ => Ok(()),
        }
    }
}

/// Fifty Gauss–Legendre steps, Captum's default.
impl Default for Steps {
    fn default() -> Self {
        Self::gauss_legendre(50)
    }
}

/// `f: (n,…) → (n,)` or `(n,o)`, x `(…)`, x′ `(…)` → scores over the elements of x, and how complete they are.
///
/// IG(x) = (x − x′) · Σₖ wₖ ∇f(x′ + αₖ(x − x′)), with the nodes α and weights w of a [`Quadrature`].
///
/// Of several outputs, `(n,o)`, each is explained, and so is their sum: one forward serves them all, and its graph is walked
/// back once for each. Who wants the sum alone lets f sum, and pays for one walk.
///
/// Errors: shapes that differ, no steps, f without a gradient at x, anything that is not finite.
///
/// **When it misleads**: the scores explain the way from *this* baseline; another baseline is another question. On
/// the way the model sees inputs it was never trained on. And a small gap says that the integral is right, not that the
/// model uses what you think it uses.
///
/// ```
/// # use pellucid::prelude::*;
/// let f = |x: &Tensor| Ok(x.clamp(0.0, 0.8)?.sum(1)?);                 // flat beyond 0.8
/// let (x, zero) = (Tensor::new(&[1.0f64], &Device::Cpu)?, Tensor::new(&[0.0f64], &Device::Cpu)?);
/// let ig = integrated_gradients(f, &x, &zero, &Steps::new(Quadrature::Middle, 1000))?;
/// assert!((ig.scores[0] - 0.8).abs() < 1e-2);                          // although the gradient at x is 0
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn integrated_gradients(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    steps: &Steps,
) -> Result<Attribution> {
    attribute(&f, x, baseline, steps)
}

fn attribute(
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    steps: &Steps,
) -> Result<Attribution> {
    steps.check()?;
    same_space(x, baseline)?;
    let ends = Outcomes::of(f, "", 2, 2, &|_| Ok(Tensor::stack(&[x, baseline], 0)?))?;
    let mut count = steps.first();
    loop {
        let gradients = path_gradients(f, x, baseline, steps, count, ends.columns().len())?;
        let attribution = scored(&gradients, x, baseline, &ends, &|ends, scores| {
            Completeness::new((ends[0], ends[1]), scores, x.dtype(), count, steps.tolerance)
        })?;
        if reached(&attribution) || count >= steps.count {
            return Ok(attribution.setting("steps", count).setting("quadrature", steps.quadrature));
        }
        count = count.saturating_mul(2).min(steps.count);
    }
}

/// (x − x′) · each output's gradient, and the law of each and of their sum.
fn scored(
    gradients: &[Tensor],
    x: &Tensor,
    baseline: &Tensor,
    ends: &Outcomes,
    law: &dyn Fn(&[f64], &[f64]) -> Completeness,
) -> Result<Attribution> {
    const METHOD: &str = "integrated gradients";
    let way = (x - baseline)?;
    let scores: Vec<Vec<f64>> = gradients.iter().map(|g| numbers(&(&way * g)?)).collect::<Result<_>>()?;
    let laws: Vec<_> = ends.columns().iter().zip(&scores).map(|(ends, scores)| law(ends, scores)).collect();
    if !ends.several() {
        let attribution = Attribution::of_elements(METHOD, x.dims(), scores.concat())?;
        return Ok(Attribution { completeness: laws.first().copied(), ..attribution });
    }
    let mut attribution = Attribution::of_outputs(METHOD, x.dims(), column_sums(&scores), scores)?;
    attribution.completeness = Some(law(&ends.sum(), &attribution.scores));
    attribution.outputs.iter_mut().zip(laws).for_each(|(output, law)| output.completeness = Some(law));
    Ok(attribution)
}

/// Whether the tolerance holds for the whole and for every output, where an output that was promised less than the mean of
/// all counts as that: of nothing, no share can be kept.
fn reached(attribution: &Attribution) -> bool {
    let laws: Vec<Completeness> = attribution.outputs.iter().filter_map(|output| output.completeness).collect();
    let mean = laws.iter().map(|law| law.promised.abs()).sum::<f64>() / laws.len().max(1) as f64;
    let holds = |law: &Completeness| {
        law.reached() || law.tolerance.is_some_and(|tolerance| law.gap().abs() <= tolerance * mean)
    };
    attribution.completeness.is_none_or(|law| law.reached()) && laws.iter().all(holds)
}

/// ∫₀¹ ∇f(x′ + α(x − x′)) dα of every output by the rule, chunk by chunk.
fn path_gradients(
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    steps: &Steps,
    count: usize,
    outputs: usize,
) -> Result<Vec<Tensor>> {
    let (alphas, weights) = steps.quadrature.nodes(count)?;
    let chunk = steps.chunk.unwrap_or_else(|| fitting(x));
    let mut progress = Progress::new("integrated gradients, steps", count);
    let mut totals = vec![x.zeros_like()?; outputs];
    for (alphas, weights) in alphas.chunks(chunk).zip(weights.chunks(chunk)) {
        each_gradient(f, &interpolate(baseline, x, alphas)?, &mut |output, gradients| {
            let part = riemann_sum(&gradients, weights)?;
            let other = || Error::argument("the function has more outputs for some inputs than for others");
            let total = totals.get_mut(output).ok_or_else(other)?;
            *total = (&*total + part)?;
            Ok(())
        })?;
        progress.advance(alphas.len());
    }
    Ok(totals)
}

/// How the completeness gap falls as steps are added.
///
/// ```
/// # use pellucid::prelude::*;
/// let (x, zero) = (Tensor::new(&[1.0f64], &Device::Cpu)?, Tensor::new(&[0.0f64], &Device::Cpu)?);
/// let gaps = convergence(|x| Ok(x.sqr()?.sum(1)?), &x, &zero, &[Quadrature::Right], &[2, 4])?;
/// let (rule, curve) = &gaps.curves[0];
/// assert_eq!((*rule, curve), (Quadrature::Right, &vec![(2, 0.5), (4, 0.25)]));    // 1/n
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Convergence {
    /// For each rule, (number of steps, relative gap).
    pub curves: Vec<(Quadrature, Vec<(usize, f64)>)>,
}

/// `f: (n,…) → (n,)` or `(n,o)`, x `(…)`, x′ `(…)` → the relative completeness gap for every rule and number of steps; of several
/// outputs, that of their sum.
///
/// Errors: those of [`integrated_gradients`].
///
/// **When it misleads**: errors of opposite sign cancel in a sum, so a gap may be small before the scores are right; and it
/// falls no further than rounding allows.
///
/// ```
/// # use pellucid::prelude::*;
/// let (x, zero) = (Tensor::new(&[1.0f64], &Device::Cpu)?, Tensor::new(&[0.0f64], &Device::Cpu)?);
/// let cubic = |x: &Tensor| Ok(x.powf(3.0)?.sum(1)?);
/// let gaps = convergence(cubic, &x, &zero, &[Quadrature::GaussLegendre, Quadrature::Right], &[2, 4])?;
/// assert!(gaps.curves[0].1[0].1 < 1e-12);                     // two Gauss–Legendre nodes are exact for a cubic
/// assert!(gaps.curves[1].1[1].1 > 0.1);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn convergence(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    rules: &[Quadrature],
    counts: &[usize],
) -> Result<Convergence> {
    let gap = |rule: Quadrature, count: usize| {
        let completeness = attribute(&f, x, baseline, &Steps::new(rule, count))?.completeness;
        Ok((count, completeness.map_or(f64::NAN, |law| law.relative_gap)))
    };
    let curve = |&rule: &Quadrature| Ok((rule, counts.iter().map(|&count| gap(rule, count)).collect::<Result<_>>()?));
    Ok(Convergence { curves: rules.iter().map(curve).collect::<Result<_>>()? })
}

/// How many copies of x make a batch that is large enough to be fast and small enough to stay in memory: on a CPU, where there is
/// at least one for each core, as many for each.
pub(crate) fn fitting(x: &Tensor) -> usize {
    const ELEMENTS: usize = 1 << 19;
    let (fit, cores) = ((ELEMENTS / x.elem_count().max(1)).max(1), rayon::current_num_threads());
    if x.device().is_cpu() && fit >= cores { fit.next_multiple_of(cores) } else { fit }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn cores_round_a_batch_up_but_make_none_of_a_few_pictures() -> Result<()> {
        let cores = rayon::ThreadPoolBuilder::new().num_threads(12).build().map_err(Error::argument)?;
        let fit = |shape: &[usize]| -> Result<usize> {
            let x = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
            Ok(cores.install(|| fitting(&x)))
        };
        assert_eq!(fit(&[8, 128])?, 516); // 512, and as many for each of 12
        assert_eq!(fit(&[3, 224, 224])?, 3);
        Ok(())
    }
}
