//! Cases without a model: the rules, and a function written down.

use candle_core::D;
use pellucid::prelude::*;

use super::Fallible;
use super::case::Run;
use super::kinds::Got;
use super::peer::{Explained, Peer};
use super::value::Value;

/// The function of `ig_closed_form`, as the files write it.
pub const CLOSED_FORM: &str = "sum_i c_i x_i^2 + tanh(sum_i u_i x_i) + x_0 x_1";

/// A rule's nodes and weights.
pub fn quadrature(run: &Run) -> Fallible<Got> {
    let (nodes, weights) = Peer::new(run.word("method")?, run.count("n_steps")?)?.nodes()?;
    let sum = weights.iter().sum::<f64>();
    Ok([("alphas", nodes.as_slice().into()), ("weights", weights.as_slice().into()), ("weight_sum", sum.into())]
        .map(|(field, value): (_, Value)| (field.into(), value))
        .into())
}

/// Integrated Gradients of [`CLOSED_FORM`].
pub fn closed_form(run: &Run) -> Fallible<Got> {
    run.says("F", CLOSED_FORM)?;
    let [x, baseline, c, u] = ["x", "baseline", "c", "u"].map(|name| run.input(name).and_then(|v| v.tensor(run.dtype)));
    let (c, u) = (c?, u?);
    let f = |x: &Tensor| {
        let squares = x.sqr()?.broadcast_mul(&c)?.sum(D::Minus1)?;
        let wave = x.broadcast_mul(&u)?.sum(D::Minus1)?.tanh()?;
        let product = (x.narrow(1, 0, 1)? * x.narrow(1, 1, 1)?)?.squeeze(1)?;
        Ok(((squares + wave)? + product)?)
    };
    fields(&Peer::new(run.word("method")?, run.count("n_steps")?)?.explain(f, &x?, &baseline?)?)
}

/// An explanation by the names of the files.
pub fn fields(explained: &Explained) -> Fallible<Got> {
    let Explained { attribution, delta, ends } = explained;
    let attr = Value::of(&attribution.tensor()?)?;
    Ok([("attr", attr), ("delta", (*delta).into()), ("f_input", ends.0.into()), ("f_baseline", ends.1.into())]
        .map(|(field, value)| (field.into(), value))
        .into())
}
