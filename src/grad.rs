//! The gradient of a function at given points, and a way to find out whether it is right.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::tensor::{all_finite, finite, floating, numbers};
use crate::{Error, Result, kernel};

/// `f: (n,…) → (n,)`, `(n,…) → (n,…)`: ∇f at every row. Of several outputs, `(n,o)`, it is the gradient of their sum.
///
/// Rows must not talk to each other, as examples of a batch do not; then the gradient of Σₖ f(xₖ) is the stack of the
/// rows' gradients, and one walk back through the graph yields them all.
///
/// Errors: x holds integers; f's output is not one finite number per row and output; its graph never reaches the input
/// ([`Error::GraphCut`]); a gradient is not finite.
///
/// **When it misleads**: where a candle operation without backward lies on a branch beside a residual connection, the
/// gradient exists and is wrong. [`grad_check`] tells.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[[1.0f64, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let gradient = grad_at(|x| Ok(x.sqr()?.sum(1)?), &x)?;
/// assert_eq!(gradient.to_vec2::<f64>()?, [[2.0, 4.0], [6.0, 8.0]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn grad_at(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<Tensor> {
    gradient_of(&f, x)
}

fn gradient_of(f: &dyn Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<Tensor> {
    let (x, y) = forward(f, x)?;
    back(&y, &x)
}

/// `f: (n,…) → (n,o)`, `(n,…) → (o,n,…)`: the gradient of every output at every row. One forward serves all outputs, and its
/// graph is walked back once for each.
///
/// Errors: those of [`grad_at`].
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[[1.0f64, 2.0]], &Device::Cpu)?;
/// let jacobian = jacobian_at(|x| Ok(x.sqr()?), &x)?;
/// assert_eq!(jacobian.to_vec3::<f64>()?, [[[2.0, 0.0]], [[0.0, 4.0]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn jacobian_at(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<Tensor> {
    let mut gradients = Vec::new();
    each_gradient(&f, x, &mut |_, gradient| {
        gradients.push(gradient);
        Ok(())
    })?;
    Ok(Tensor::stack(&gradients, 0)?)
}

/// Visits the gradient `(n,…)` of each output, by its number, without keeping those before. Whether f said that it has
/// several, `(n,o)`.
pub(crate) fn each_gradient(
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    visit: &mut dyn FnMut(usize, Tensor) -> Result<()>,
) -> Result<bool> {
    let (x, y) = forward(f, x)?;
    match *y.dims() {
        [_, outputs] => (0..outputs).try_for_each(|output| visit(output, back(&y.narrow(1, output, 1)?, &x)?))?,
        _ => visit(0, back(&y, &x)?)?,
    }
    Ok(y.rank() == 2)
}

/// f at x, with its graph.
fn forward(f: &dyn Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<(Var, Tensor)> {
    kernel::guard()?;
    let x = Var::from_tensor(&x.detach().contiguous()?)?;
    let y = values_of(f, &x)?;
    Ok((x, y))
}

/// The gradient of Σy at x.
fn back(y: &Tensor, x: &Var) -> Result<Tensor> {
    let gradient = y.sum_all()?.backward()?.remove(x).ok_or(Error::GraphCut)?.detach();
    all_finite("the gradient", &gradient)?;
    Ok(gradient)
}

/// Gradients of one number per example, y `(b,)`.
///
/// Errors: another shape; a number that is not finite.
pub(crate) fn gradients_of(y: &Tensor, examples: usize) -> Result<GradStore> {
    if y.dims() != [examples] {
        let wanted = format!("({examples},), one number per example");
        return Err(Error::shape("the function's output", wanted, y.dims()));
    }
    finite("the function's output", &numbers(y)?)?;
    Ok(y.sum_all()?.backward()?)
}

/// f's values at every row, checked: `(n,…) → (n,)` or `(n,o)`, finite.
pub(crate) fn values_of(f: &dyn Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<Tensor> {
    floating(x)?;
    let y = f(x)?;
    let n = x.dims().first().copied().unwrap_or(0);
    if !matches!(*y.dims(), [rows] | [rows, _] if rows == n && !y.dims().contains(&0)) {
        let wanted = format!("({n},), one number per row, or ({n}, o), one for each of o outputs");
        return Err(Error::shape("the function's output", wanted, y.dims()));
    }
    finite("the function's output", &numbers(&y)?)?;
    Ok(y)
}

/// How far the gradient of `f: (n,…) → (n,)` at one point x `(…)` is from central differences: the largest
/// |⟨∇f, v⟩ − (f(x + hv) − f(x − hv)) / 2h|, relative to |∇f|·|v|, over sixteen random directions v.
///
/// In `f64` a right gradient gives about 1e-9; in `f32`, where differences are noisy, about 1e-3. A candle operation that
/// drops its gradient gives 0.1 and more.
///
/// **When it misleads**: where ∇f is zero, as that of x³ is at 0, or nearly so, what differences are off by is divided by next to
/// nothing, and a right gradient seems far off. Of very many inputs, one whose gradient is wrong is lost among the others.
///
/// Errors: those of [`grad_at`].
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[0.3f64, -0.7], &Device::Cpu)?;
/// assert!(grad_check(|x| Ok(x.tanh()?.sum(1)?), &x)? < 1e-8);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn grad_check(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Result<f64> {
    const DIRECTIONS: usize = 16;
    let gradient = numbers(&gradient_of(&f, &x.unsqueeze(0)?)?)?;
    let size = numbers(x)?.iter().map(|x| x * x).sum::<f64>().sqrt().max(1.0);
    let step = if x.dtype() == DType::F64 { 1e-5 } else { 3e-3 } * size;
    let directions = unit_directions(DIRECTIONS, gradient.len());
    let points = central_points(x, &directions, step)?;
    let values = values_of(&f, &points)?;
    let values = numbers(&if values.rank() == 2 { values.sum(1)? } else { values })?;
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    let deviation = |(v, ends): (&Vec<f64>, &[f64])| {
        let slope: f64 = gradient.iter().zip(v).map(|(g, v)| g * v).sum();
        (slope - (ends[0] - ends[1]) / (2.0 * step)).abs() / norm
    };
    Ok(directions.iter().zip(values.chunks(2)).map(deviation).fold(0.0, f64::max))
}

/// Seeded random directions of length one.
fn unit_directions(count: usize, len: usize) -> Vec<Vec<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut direction = || {
        let v: Vec<f64> = (0..len).map(|_| StandardNormal.sample(&mut rng)).collect();
        let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        v.into_iter().map(|v| v / norm).collect()
    };
    (0..count).map(|_| direction()).collect()
}

/// x + hv and x − hv for every direction v, as one batch.
fn central_points(x: &Tensor, directions: &[Vec<f64>], step: f64) -> Result<Tensor> {
    let moves: Vec<f64> = directions
        .iter()
        .flat_map(|v| [step, -step].into_iter().flat_map(move |h| v.iter().map(move |v| h * v)))
        .collect();
    let mut shape = vec![2 * directions.len()];
    shape.extend(x.dims());
    let moves = Tensor::from_vec(moves, shape, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?;
    Ok(moves.broadcast_add(&x.unsqueeze(0)?)?)
}
