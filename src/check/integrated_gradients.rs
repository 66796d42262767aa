//! The exercises of chapter 01.

use candle_core::{Device, Tensor};

use super::{Outcome, Verdict, near, require, same};
use crate::tensor::numbers;
use crate::{Quadrature, Result, Steps, integrated_gradients};

/// n → (nodes, weights) of the middle rule, which must integrate 1 and α exactly.
///
/// ```
/// use pellucid::check;
/// let rule = |n: usize| ((0..n).map(|k| (k as f64 + 0.5) / n as f64).collect(), vec![1.0 / n as f64; n]);
/// assert!(check::middle_rule(rule).passed);
/// ```
pub fn middle_rule(rule: impl Fn(usize) -> (Vec<f64>, Vec<f64>)) -> Verdict {
    let all = [2, 5, 50, 1].into_iter().try_for_each(|n| is_middle(n, rule(n)));
    Verdict::new(all.map(|()| "Your rule integrates 1 and α exactly, with 1, 2, 5 and 50 steps.".into()))
}

fn is_middle(n: usize, (nodes, weights): (Vec<f64>, Vec<f64>)) -> Outcome<()> {
    require((nodes.len(), weights.len()) == (n, n), || {
        format!("For n = {n} I got {} nodes and {} weights; there must be {n} of each.", nodes.len(), weights.len())
    })?;
    let integral = |power| nodes.iter().zip(&weights).map(|(node, weight)| weight * node.powi(power)).sum::<f64>();
    require(near(integral(0), 1.0, 1e-9), || {
        format!("For n = {n} the weights sum to {:.4}. They must sum to 1, or constants come out wrong.", integral(0))
    })?;
    require(near(integral(1), 0.5, 1e-9), || {
        format!("For n = {n} the integral of α is ½; your rule says {:.4}: its nodes lean to one side.", integral(1))
    })?;
    let wanted = Quadrature::Middle.nodes(n)?;
    same(&format!("The nodes for n = {n}"), &nodes, &wanted.0, 1e-9)?;
    same(&format!("The weights for n = {n}"), &weights, &wanted.1, 1e-9)
}

/// A baseline `(2,)` from which f(x) = x₁ · x₂ at (3, 2) owes all of its 6 to the first factor.
///
/// ```
/// # use pellucid::prelude::*;
/// let origin = Tensor::new(&[0.0f64, 0.0], &Device::Cpu)?;
/// assert!(!check::one_sided_baseline(&origin).passed);            // from here, both get 3
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn one_sided_baseline(baseline: &Tensor) -> Verdict {
    Verdict::new(credits_the_first(baseline))
}

fn credits_the_first(baseline: &Tensor) -> Outcome {
    let x = Tensor::new(&[3.0f64, 2.0], &Device::Cpu)?;
    let baseline = baseline.to_dtype(x.dtype())?;
    let scores = integrated_gradients(product, &x, &baseline, &Steps::gauss_legendre(8))?.scores;
    let found = format!("From your baseline the scores are {:.2} and {:.2}.", scores[0], scores[1]);
    let sum = scores[0] + scores[1];
    require(near(sum, 6.0, 1e-6), || format!("{found} They sum to {sum:.2}, because f is not 0 at your baseline."))?;
    require(near(scores[1], 0.0, 1e-6), || format!("{found} The second factor must get nothing."))?;
    Ok(format!("{found} The second factor does not move on the way, so it cannot earn anything."))
}

/// A function of two inputs, `(n,2) → (n,)`.
type OfTwo = fn(&Tensor) -> Result<Tensor>;

/// x₁ · x₂, which treats its inputs alike.
fn product(x: &Tensor) -> Result<Tensor> {
    Ok((x.narrow(1, 0, 1)? * x.narrow(1, 1, 1)?)?.squeeze(1)?)
}

/// x₁² · x₂ + tanh(x₁ + 2x₂), which does not.
fn uneven(x: &Tensor) -> Result<Tensor> {
    let (first, second) = (x.narrow(1, 0, 1)?, x.narrow(1, 1, 1)?);
    let bent = (&first + (&second * 2.0)?)?.tanh()?;
    Ok(((first.sqr()? * second)? + bent)?.squeeze(1)?)
}

/// (f, x, x′) → the two scores along the path that first moves x₁ and then x₂: each earns what f gains while it moves.
///
/// ```
/// # use pellucid::prelude::*;
/// fn straight(f: fn(&Tensor) -> Result<Tensor>, x: &Tensor, baseline: &Tensor) -> Result<Vec<f64>> {
///     Ok(integrated_gradients(f, x, baseline, &Steps::default())?.scores)
/// }
/// assert!(!check::corner_path(straight).passed);
/// ```
pub fn corner_path(scores: impl Fn(OfTwo, &Tensor, &Tensor) -> Result<Vec<f64>>) -> Verdict {
    let ways: [(OfTwo, [[f64; 2]; 2]); 3] =
        [(product, [[3.0, 2.0], [0.0, 0.0]]), (uneven, [[1.0, -0.5], [0.2, 0.4]]), (uneven, [[0.5, 1.5], [-0.5, 0.1]])];
    let turns = |(f, [x, baseline]): (OfTwo, [[f64; 2]; 2])| {
        let place = |point: [f64; 2]| Tensor::new(&point, &Device::Cpu);
        let got = scores(f, &place(x)?, &place(baseline)?)?;
        earned_on_the_way(&got, f, x, baseline)
    };
    Verdict::new(ways.into_iter().try_for_each(turns).map(|()| {
        "Complete on every way I tried, and each input earns what f gains while it moves. Yet x₁·x₂ treats its inputs \
         alike, and your path does not."
            .into()
    }))
}

fn earned_on_the_way(got: &[f64], f: OfTwo, x: [f64; 2], baseline: [f64; 2]) -> Outcome<()> {
    let values = numbers(&f(&Tensor::new(&[baseline, [x[0], baseline[1]], x], &Device::Cpu)?)?)?;
    let (sum, promised) = (got.iter().sum::<f64>(), values[2] - values[0]);
    let way = format!("From {baseline:?} to {x:?}");
    require(near(sum, promised, 1e-3), || format!("{way} the scores sum to {sum:.4}, but f rises by {promised:.4}."))?;
    let wanted = [values[1] - values[0], values[2] - values[1]];
    same(&format!("{way} the sum is right, but not its parts. Scores"), got, &wanted, 1e-3)
}
