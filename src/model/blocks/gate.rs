//! y = a(g)·u: a gated activation.

use candle_core::Tensor;

use super::Activation;
use super::matrix::Real;
use super::stage::{Block, Rows, Shape, Tape};
use crate::model::rules::Product;
use crate::{Error, Result};

/// `(n,t,2c) → (n,t,c)`: y = a(g)·u, element by element, with g the first half of the channels and u the second, as one
/// stacked [`Linear`](super::Linear) yields them (Shazeer 2020, arXiv 2002.05202, eq. 6: SwiGLU for a = SiLU).
///
/// Backward: ḡ = ȳ·u·a′(g), ū = ȳ·a(g); halved, ½ of each; frozen, ū = ȳ·a(g) alone
/// ([`Rules::gate`](crate::model::Rules::gate), and of a's slope [`Rules::activation`](crate::model::Rules::activation)).
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Activation, Chain, Gate, Stage};
/// let gate = Chain::new(vec![Stage::Gate(Gate(Activation::Relu))]);
/// let x = Tensor::new(&[[[2.0f64, 3.0]]], &Device::Cpu)?;                     // g = 2, u = 3, y = 6
/// for (rules, relevance) in [(Rules::exact(), 12.0), (Rules::libragrad(), 6.0)] {
///     let gate = gate.under(rules);
///     let slope = grad_at(|x| Ok(gate.forward(x, None, &mut Clear)?.sum((1, 2))?), &x)?;
///     assert_eq!((slope * &x)?.sum_all()?.to_scalar::<f64>()?, relevance);    // halved, it is counted once
/// }
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Gate(pub Activation);

impl Block for Gate {
    /// Keeps what ȳ will be multiplied with: u·a′(g) and a(g), side by side.
    fn forward<T: Real>(&self, mut x: Rows<T>, shape: &Shape) -> candle_core::Result<(Rows<T>, Tape<T>)> {
        let (c, rule) = (shape.channels / 2, shape.rules.activation);
        let mut y = Vec::with_capacity(shape.rows() * c);
        for row in x.chunks_exact_mut(2 * c) {
            let (g, u) = row.split_at_mut(c);
            let start = y.len();
            y.extend_from_slice(u);
            if !shape.keep {
                self.0.map(g, &mut y[start..], |_, y, at| *y *= at.value);
                continue;
            }
            self.0.with_slopes(g, u, rule);
            for ((y, g), &mut a) in y[start..].iter_mut().zip(g).zip(u) {
                (*g, *y) = (*g * *y, *y * a);
            }
        }
        Ok((y, vec![x]))
    }

    fn backward<T: Real>(&self, kept: &[Rows<T>], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let (c, rule) = (shape.channels / 2, shape.rules.gate);
        let share = T::lit(rule.share());
        let mut dx = kept[0].clone();
        for (dx, dy) in dx.chunks_exact_mut(2 * c).zip(dy.chunks_exact(c)) {
            let (dg, du) = dx.split_at_mut(c);
            match rule {
                Product::Frozen => dg.fill(T::zero()),
                _ => dg.iter_mut().zip(dy).for_each(|(dg, &dy)| *dg *= share * dy),
            }
            du.iter_mut().zip(dy).for_each(|(du, &dy)| *du *= share * dy);
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
