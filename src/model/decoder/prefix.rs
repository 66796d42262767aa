//! What variants of a text share at their beginning is computed once.

use candle_core::Tensor;

use super::CausalLm;
use crate::model::blocks::{Chain, Stage};
use crate::model::hook::{Hook, Record, Site};
use crate::tensor::numbers;
use crate::{Error, Result};

/// The queries, keys and values of the tokens so far, `(1,p,·)` for each layer: a KV cache. Empty before the first token.
#[derive(Clone, Default)]
pub(super) struct Past(Vec<Tensor>);

impl Past {
    /// A layer's attention over new tokens and those before.
    pub fn attend(&self, attention: &Chain, layer: usize, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        match self.0.get(layer) {
            Some(past) => attention.forward_after(x, past, hook),
            None => attention.forward(x, None, hook),
        }
    }

    /// With the tokens of another past following.
    fn and(&self, new: Vec<Tensor>) -> Result<Self> {
        match self.0.is_empty() {
            true => Ok(Self(new)),
            false => {
                let both = self.0.iter().zip(&new).map(|(old, new)| Tensor::cat(&[old, new], 1));
                Ok(Self(both.collect::<candle_core::Result<_>>()?))
            }
        }
    }
}

impl CausalLm {
    /// The blocks over the tokens `(1,t,c)` after a past: their output, and the past that now ends with them.
    pub(super) fn extend(&self, past: &Past, x: &Tensor) -> Result<(Tensor, Past)> {
        let sites: Vec<_> = (0..self.layers()).map(Site::Qkv).collect();
        let mut record = Record::new(&sites);
        let y = self.blocks(x.clone(), past, &mut record)?;
        let new = sites.into_iter().map(|site| record.get(site).cloned()).collect::<Result<_>>()?;
        Ok((y, past.and(new)?))
    }

    /// Embeddings `(n,t,c)` → `tail` of the last block's output at `count` tokens of each example, from the one where it
    /// starts.
    pub(super) fn run(&self, x: &Tensor, starts: &[usize], count: usize, tail: Vec<Stage>) -> Result<Tensor> {
        if x.dim(0)? == 0 {
            return Err(Error::shape("the embeddings", "(n, t, c), n at least 1", x.dims()));
        }
        match x.track_op() {
            true => self.blocks_at(x, &Past::default(), starts, count, tail),
            false => self.branch(&Variants::new(x)?, &Past::default(), starts, count, &tail),
        }
    }

    /// The variants as a tree: what all share becomes past; if the halves share more, each goes on by itself.
    fn branch(&self, of: &Variants, past: &Past, starts: &[usize], count: usize, tail: &[Stage]) -> Result<Tensor> {
        let first = starts.iter().copied().min().unwrap_or(0);
        let shared = of.shared().min(first);
        if of.len() > 1 && shared > 0 {
            let (_, past) = self.extend(past, &of.x.narrow(0, 0, 1)?.narrow(1, 0, shared)?)?;
            let starts: Vec<usize> = starts.iter().map(|start| start - shared).collect();
            return self.branch(&of.after(shared)?, &past, &starts, count, tail);
        }
        let half = of.len() / 2;
        if of.len() > Variants::LEAF {
            let (left, right) = (of.some(0, half)?, of.some(half, of.len() - half)?);
            if left.shared().max(right.shared()).min(first) >= Variants::WORTH {
                let (near, far) = starts.split_at(half);
                let halves =
                    [self.branch(&left, past, near, count, tail)?, self.branch(&right, past, far, count, tail)?];
                return Ok(Tensor::cat(&halves, 0)?);
            }
        }
        self.blocks_at(&of.x, past, starts, count, tail.to_vec())
    }
}

/// Variants of one text, `(n,t,c)`, in the order they were given.
struct Variants {
    x: Tensor,
    /// For each variant but the first, how many tokens it shares at its beginning with the one before it.
    shared: Vec<usize>,
}

impl Variants {
    /// So few variants are not divided further.
    const LEAF: usize = 4;
    /// So many shared tokens are worth a division.
    const WORTH: usize = 4;

    fn new(x: &Tensor) -> Result<Self> {
        let (n, t, _) = x.dims3()?;
        if n < 2 {
            return Ok(Self { x: x.clone(), shared: Vec::new() });
        }
        let apart = (x.narrow(0, 1, n - 1)? - x.narrow(0, 0, n - 1)?)?.abs()?.max(2)?;
        let same = |row: &[f64]| row.iter().position(|&distance| distance != 0.0).unwrap_or(t);
        Ok(Self { x: x.clone(), shared: numbers(&apart)?.chunks(t).map(same).collect() })
    }

    fn len(&self) -> usize {
        self.shared.len() + 1
    }

    /// How many tokens all variants share at their beginning.
    fn shared(&self) -> usize {
        self.shared.iter().copied().min().unwrap_or(0)
    }

    /// The variants without their first tokens.
    fn after(&self, tokens: usize) -> Result<Self> {
        let x = self.x.narrow(1, tokens, self.x.dim(1)? - tokens)?;
        Ok(Self { x, shared: self.shared.iter().map(|shared| shared - tokens).collect() })
    }

    /// `count` variants from one on.
    fn some(&self, from: usize, count: usize) -> Result<Self> {
        Ok(Self { x: self.x.narrow(0, from, count)?, shared: self.shared[from..from + count - 1].to_vec() })
    }
}
