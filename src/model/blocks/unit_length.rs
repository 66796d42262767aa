//! y = x/‖x‖: every token's channels as a vector of length one.

use candle_core::{D, Tensor};

use super::matrix::Real;
use super::stage::{Block, Rows, Shape, Tape};
use super::sum;
use crate::model::rules::Product;

/// `(n,t,c) → (n,t,c)`: y = x/‖x‖ over c, as CLIP's vectors are before their cosine is taken (Radford et al. 2021, arXiv
/// 2103.00020, figure 3).
///
/// Backward: x̄ = (ȳ − y·⟨y,ȳ⟩) / ‖x‖, of which no part lies along x, so that ⟨x,x̄⟩ = 0; with ‖x‖ frozen, x̄ = ȳ / ‖x‖
/// ([`Rules::length`](crate::model::Rules::length)).
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Chain, Stage, UnitLength};
/// let chain = Chain::new(vec![Stage::UnitLength(UnitLength)]);
/// let x = Tensor::new(&[[[3.0f64, 4.0]]], &Device::Cpu)?;
/// let y = chain.forward(&x, None, &mut Clear)?;
/// assert!((y.sqr()?.sum_all()?.to_scalar::<f64>()? - 1.0).abs() < 1e-12);
/// let first = |x: &Tensor| Ok(chain.forward(x, None, &mut Clear)?.narrow(2, 0, 1)?.sum((1, 2))?);
/// let along = (grad_at(first, &x)? * &x)?.sum_all()?.to_scalar::<f64>()?;
/// assert!(along.abs() < 1e-12);    // a longer x is the same y
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct UnitLength;

impl Block for UnitLength {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        let mut y = x.clone();
        for row in y.chunks_exact_mut(shape.channels) {
            let inverse = inverse_length(row);
            row.iter_mut().for_each(|y| *y *= inverse);
        }
        Ok((y, vec![x]))
    }

    fn backward<T: Real>(&self, kept: &[Rows<T>], mut dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let rows = kept[0].chunks_exact(shape.channels).zip(dy.chunks_exact_mut(shape.channels));
        rows.for_each(|(x, g)| pull_back(x, g, shape.rules.length));
        Ok(dy)
    }

    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        shape.rules.length.of(&length, |length| x.broadcast_div(length))
    }
}

/// ȳ in `g` becomes x̄, for one token.
fn pull_back<T: Real>(x: &[T], g: &mut [T], rule: Product) {
    let (inverse, share) = (inverse_length(x), T::lit(rule.share()));
    let along = match rule {
        Product::Frozen => T::zero(),
        _ => sum(x.len(), |i| x[i] * g[i]) * inverse * inverse,
    };
    g.iter_mut().zip(x).for_each(|(g, &x)| *g = share * inverse * (*g - x * along));
}

/// 1/‖x‖ of one token's channels.
fn inverse_length<T: Real>(x: &[T]) -> T {
    T::one() / sum(x.len(), |i| x[i] * x[i]).sqrt()
}
