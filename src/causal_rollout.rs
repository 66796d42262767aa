//! Rollout of models that look back only, with what position alone would give beside it.

use std::fmt;

use candle_core::{D, Device, Tensor};

use crate::patterns::causal;
use crate::rollout::{Rollout, identity, product, rows_to_one, with_residual};
use crate::tensor::numbers;
use crate::{Error, Result};

/// A decoder's rollout, never without a correction for position.
///
/// Every token reaches the first, and only the last reaches the last: a causal rollout drifts to the first tokens before the
/// model has done anything (Abnar & Zuidema 2020 warn of it and give no formula). Three corrections, of which none is
/// the right one:
///
/// * [`lift`](Self::lift): how many times more arrives than position alone would bring;
/// * [`reweighted`](Self::reweighted): keys that many queries see count less, layer by layer;
/// * [`without_first`](Self::without_first): what does not end at the first token, where idle heads rest.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
/// let CausalRollout { raw, null, .. } = causal_rollout(&llm.attention(&prompt)?, &Rollout::default())?;
/// let last = prompt.len() - 1;
/// let [looks, position] = [raw.i((0, last))?, null.i(last)?];    // rows that sum to one
/// assert!((looks.sum_all()?.to_scalar::<f32>()? - position.sum_all()?.to_scalar::<f32>()?).abs() < 1e-4);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone)]
pub struct CausalRollout {
    /// `(b,t,t)`: the rollout as it is. **Mostly position**: not an explanation by itself.
    pub raw: Tensor,
    /// `(t,t)`: the rollout if every query looked evenly at all it can see. Position and nothing else.
    pub null: Tensor,
    /// `(b,t,t)`: the rollout of maps whose weights were divided by the key's exposure before rows were divided by their
    /// sums. The exposure of a key is the mean weight that uniform attention gives it, over the queries that see it.
    pub reweighted: Tensor,
}

/// `L × (b,h,t,t)` causal maps → their [`CausalRollout`].
///
/// Errors: maps that are no patterns, or look ahead, which are for [`rollout`](crate::rollout()); `discard`, since most of a
/// causal map's weakest weights are those that are zero anyway; no layer left above `start_layer`.
///
/// **When it misleads**: wherever rollout does. Corrected for position is not corrected for content: it knows nothing of
/// values, feed-forward layers, or of the token that was predicted.
///
/// ```
/// # use pellucid::prelude::*;
/// let uniform = Tensor::new(&[[[[1.0f64, 0.0], [0.5, 0.5]]]], &Device::Cpu)?;
/// let rolled = causal_rollout(&[uniform.clone(), uniform], &Rollout::default())?;
/// assert_eq!(rolled.raw.get(0)?.to_vec2::<f64>()?, rolled.null.to_vec2::<f64>()?);
/// assert_eq!(rolled.lift()?.get(0)?.to_vec2::<f64>()?, [[1.0, 0.0], [1.0, 1.0]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn causal_rollout(attention: &[Tensor], options: &Rollout) -> Result<CausalRollout> {
    let maps = causal(attention)?;
    if options.discard != 0.0 {
        return Err(Error::argument(
            "`discard` has no meaning for causal maps, whose weakest weights are the zeros above the diagonal; leave it at 0",
        ));
    }
    let fused = options.fused(&maps)?;
    let uniform = uniform(&fused[0])?;
    let exposure = exposure(&uniform)?;
    let even = |map: &Tensor| with_residual(&rows_or_nothing(&map.broadcast_div(&exposure)?)?);
    Ok(CausalRollout {
        raw: product(&fused.iter().map(with_residual).collect::<Result<Vec<_>>>()?)?,
        null: product(&vec![with_residual(&uniform)?; fused.len()])?,
        reweighted: product(&fused.iter().map(even).collect::<Result<Vec<_>>>()?)?,
    })
}

/// Rows divided by their sums; where heads that look at different keys leave nothing of a row, it stays nothing.
fn rows_or_nothing(maps: &Tensor) -> Result<Tensor> {
    let sums = maps.sum_keepdim(D::Minus1)?;
    Ok(maps.broadcast_div(&(&sums + sums.eq(0.0)?.to_dtype(sums.dtype())?)?)?)
}

/// `(t,t)`: row i is 1/(i + 1) up to the diagonal.
fn uniform(like: &Tensor) -> Result<Tensor> {
    rows_to_one(&Tensor::tril2(like.dim(D::Minus1)?, like.dtype(), like.device())?)
}

/// `(t,)`: the mean of each column from the diagonal on.
fn exposure(uniform: &Tensor) -> Result<Tensor> {
    let t = uniform.dim(0)?;
    let seen_by: Vec<f64> = (0..t).map(|key| (t - key) as f64).collect();
    let seen_by = Tensor::new(seen_by, &Device::Cpu)?.to_dtype(uniform.dtype())?.to_device(uniform.device())?;
    Ok((uniform.sum(0)? / seen_by)?)
}

impl CausalRollout {
    /// `(b,t,t)`: raw / null, 0 above the diagonal: 1 where a token brings as much as its position would, 2 where twice.
    ///
    /// Rows do not sum to one; their mean, weighted with the null's row, is one.
    ///
    /// **When it misleads**: late and deep, the null is tiny for all but the first tokens and the token itself, and small
    /// differences of weight become large ratios.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let uniform = Tensor::new(&[[[[1.0f64, 0.0], [0.5, 0.5]]]], &Device::Cpu)?;
    /// let rolled = causal_rollout(&[uniform], &Rollout::default())?;
    /// assert_eq!(rolled.lift()?.get(0)?.to_vec2::<f64>()?, [[1.0, 0.0], [1.0, 1.0]]);    // position alone
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn lift(&self) -> Result<Tensor> {
        let t = self.null.dim(0)?;
        let ahead = (Tensor::triu2(t, self.null.dtype(), self.null.device())? - identity(&self.null)?)?;
        Ok(self.raw.broadcast_div(&(&self.null + ahead)?)?)
    }

    /// `(b,t,t)`: the raw rollout without its first column, rows divided by their sums; the first row is 0.
    ///
    /// Nothing that has arrived at the first token leaves it again, for it sees only itself. So this is the rollout along
    /// all paths that never touch it.
    ///
    /// **When it misleads**: it takes away the resting place of idle heads, and not the advantage that the second token has
    /// over the third.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let uniform = Tensor::new(&[[[[1.0f64, 0.0], [0.5, 0.5]]]], &Device::Cpu)?;
    /// let rolled = causal_rollout(&[uniform], &Rollout::default())?;
    /// assert_eq!(rolled.without_first()?.get(0)?.to_vec2::<f64>()?, [[0.0, 0.0], [0.0, 1.0]]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn without_first(&self) -> Result<Tensor> {
        let first = identity(&self.null)?.narrow(1, 0, 1)?;
        let rest = self.raw.broadcast_mul(&first.t()?.affine(-1.0, 1.0)?)?;
        Ok(rest.broadcast_div(&rest.sum_keepdim(D::Minus1)?.broadcast_add(&first)?)?)
    }
}

impl fmt::Debug for CausalRollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = |map: &Tensor| {
            let last = map.narrow(D::Minus2, map.dim(D::Minus2)? - 1, 1)?;
            let share = numbers(&last.narrow(D::Minus1, 0, 1)?)?;
            Ok::<_, Error>(share.iter().map(|share| format!("{share:.3}")).collect::<Vec<_>>().join(", "))
        };
        let (raw, null, reweighted) = (first(&self.raw), first(&self.null), first(&self.reweighted));
        let unknown = |share: Result<String>| share.unwrap_or_else(|error| error.to_string());
        writeln!(f, "causal rollout {:?}; of the last token's row, the first token has", self.raw.dims())?;
        writeln!(f, "  {} in `raw`, the rollout as it is, mostly position", unknown(raw))?;
        writeln!(f, "  {} in `null`, uniform attention, position alone", unknown(null))?;
        write!(f, "  {} in `reweighted`, each key's exposure divided out", unknown(reweighted))
    }
}
