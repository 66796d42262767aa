//! y = a(g)·u: a gated activation.

use candle_core::Tensor;

use super::Activation;
use super::matrix::Real;
use super::stage::{Block, Rows, Shape};
use crate::{Error, Result};

/// `(n,t,2c) → (n,t,c)`: y = a(g)·u, element by element, with g the first half of the channels and u the second, as one
/// stacked [`Linear`](super::Linear) yields them (Shazeer 2020, arXiv 2002.05202, eq. 6: SwiGLU for a = SiLU).
///
/// Backward: ḡ = ȳ·u·a′(g), ū = ȳ·a(g).
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
            self.0.map(g, &mut y[start..], |y, (value, _)| *y *= value);
        }
        Ok((y, x))
    }

    fn backward<T: Real>(&self, x: &[T], dy: Rows<T>, shape: &Shape) -> candle_core::Result<Rows<T>> {
        let c = shape.channels / 2;
        let mut dx = vec![T::zero(); x.len()];
        for ((row, dx), dy) in x.chunks_exact(2 * c).zip(dx.chunks_exact_mut(2 * c)).zip(dy.chunks_exact(c)) {
            let ((g, u), (dg, du)) = (row.split_at(c), dx.split_at_mut(c));
            dg.iter_mut().zip(dy.iter().zip(u)).for_each(|(dg, (&dy, &u))| *dg = dy * u);
            du.copy_from_slice(dy);
            self.0.map(g, dg, |dg, (_, slope)| *dg *= slope);
            self.0.map(g, du, |du, (value, _)| *du *= value);
        }
        Ok(dx)
    }

    fn composed(&self, x: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
        let c = shape.channels / 2;
        self.0.composed(&x.narrow(2, 0, c)?, shape)? * x.narrow(2, c, c)?
    }

    fn width(&self, channels: usize) -> Result<usize> {
        let wrong = || Error::shape("a gate's input", "(n, t, 2c), gate and value side by side", &[channels]);
        if channels.is_multiple_of(2) { Ok(channels / 2) } else { Err(wrong()) }
    }
}
