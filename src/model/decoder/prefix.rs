//! What variants of a text share at their beginning is computed once.

use candle_core::Tensor;

use super::CausalLm;
use crate::Result;
use crate::model::blocks::{Chain, Stage};
use crate::model::hook::{Clear, Hook, Record, Site};
use crate::tensor::numbers;

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

    /// Its first tokens alone.
    fn first(&self, tokens: usize) -> Result<Self> {
        match tokens {
            0 => Ok(Self::default()),
            _ => Ok(Self(self.0.iter().map(|past| past.narrow(1, 0, tokens)).collect::<candle_core::Result<_>>()?)),
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
    ///
    /// Where no gradient is asked for, the last variant goes first, and of the others only what follows their common
    /// beginning with it is computed: variants in the order of their changes share much.
    pub(super) fn run(&self, x: &Tensor, starts: &[usize], count: usize, tail: Vec<Stage>) -> Result<Tensor> {
        let n = x.dim(0)?;
        let (Some(&last), false, true) = (starts.last(), x.track_op(), n > 1) else {
            return self.blocks_at(x, &Past::default(), starts, count, tail);
        };
        let (hidden, past) = self.extend(&Past::default(), &x.narrow(0, n - 1, 1)?)?;
        let shared = shared_beginnings(x)?;
        let mut outcomes = Vec::new();
        // A graphics processor has more to gain from one large batch than from what is shared.
        let together = if x.device().is_cpu() { TOGETHER } else { n };
        for from in (0..n - 1).step_by(together) {
            let some = from..(from + together).min(n - 1);
            let known = some.clone().map(|i| shared[i].min(starts[i])).min().unwrap_or(0);
            let rest = x.narrow(0, from, some.len())?.narrow(1, known, x.dim(1)? - known)?;
            let starts: Vec<usize> = starts[some].iter().map(|start| start - known).collect();
            outcomes.push(self.blocks_at(&rest, &past.first(known)?, &starts, count, tail.clone())?);
        }
        outcomes.push(Chain::new(tail).forward(&hidden.narrow(1, last, count)?, None, &mut Clear)?);
        Ok(Tensor::cat(&outcomes, 0)?)
    }
}

/// So many variants are computed at a time on a CPU, from where the first of them differs.
const TOGETHER: usize = 4;

/// For each variant, how many tokens it shares at its beginning with the last one.
fn shared_beginnings(x: &Tensor) -> Result<Vec<usize>> {
    let (n, t, _) = x.dims3()?;
    let apart = x.ne(&x.narrow(0, n - 1, 1)?.broadcast_as(x.shape())?)?.max(2)?;
    let same = |row: &[f64]| row.iter().position(|&apart| apart != 0.0).unwrap_or(t);
    Ok(numbers(&apart)?.chunks(t).map(same).collect())
}
