//! y = a(g)·u: a gated activation.

use candle_core::Tensor;

use super::Activation;
use super::matrix::Real;
use super::stage::{Block, Rows, Shape};
use crate::model::rules::Product;
use crate::{Error, Result};

/// `(n,t,2c) → (n,t,c)`: y = a(g)·u, element by element, with g the first half of the channels and u the second, as one
/// stacked [`Linear`](super::Linear) yields them (Shazeer 2020, arXiv 2002.05202, eq. 6: SwiGLU for a = SiLU).
///
/// Backward: ḡ = ȳ·u·a′(g), ū = ȳ·a(g); halved, ½ of each; frozen, ū = ȳ·a(g) alone
/// ([`Rules::gate`](crate::model::Rules::gate), and of a's slope [`Rules::activation`](crate::model::Rules::activation)).
#[derive(Clone, Copy, Debug)]
pub struct Gate(pub Activation);

impl Block for Gate {
    fn forward<T: Real>(&self, x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Rows<T>)> {
        let c = shape.channels / 2;
        let mut y = Vec::with_capacity(shape.rows() * c);
        for row in x.chunks_exact(2 * c) {
            let (g, u) = row.split_at(c);
            let start = y.len();
            y.extend_from_slice(u);
            self.0.map(g, &mut y[start..], |y, at| *y *= at.value);
        }
        Ok((y, x))
    }

    fn backward<T: Real>(&self, x: &[T], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let (c, rule) = (shape.channels / 2, shape.rules.gate);
        let share = T::lit(rule.share());
        let mut dx = vec![T::zero(); x.len()];
        for ((row, dx), dy) in x.chunks_exact(2 * c).zip(dx.chunks_exact_mut(2 * c)).zip(dy.chunks_exact(c)) {
            let ((g, u), (dg, du)) = (row.split_at(c), dx.split_at_mut(c));
            if rule != Product::Frozen {
                dg.iter_mut().zip(dy.iter().zip(u)).for_each(|(dg, (&dy, &u))| *dg = share * dy * u);
                self.0.pull_back(g, dg, shape.rules.activation);
            }
            du.iter_mut().zip(dy).for_each(|(du, &dy)| *du = share * dy);
            self.0.map(g, du, |du, at| *du *= at.value);
        }
        Ok(dx)
    }

    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let c = shape.channels / 2;
        let (g, u) = (self.0.composed(&x.narrow(2, 0, c)?, shape)?, x.narrow(2, c, c)?);
        shape.rules.gate.of(&g, |g| g * u)
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let wrong = || Error::shape("a gate's input", "(n, t, 2c), gate and value side by side", &[channels]);
        if channels.is_multiple_of(2) { Ok(channels / 2) } else { Err(wrong()) }
    }
}
