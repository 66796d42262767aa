//! Attention rollout: of a model's attention, and of given maps.

use pellucid::prelude::*;

use super::Fallible;
use super::case::Run;
use super::kinds::Got;
use super::value::Value;
use crate::seer::Seer;

/// The discarding this crate does, as the files write it.
pub const DISCARD: &str =
    "zero the int(N*N*ratio) smallest entries of the fused map, flat index 0 exempt, before adding I";

/// Rollout of a model's attention to a text or a picture.
pub fn attention(run: &Run) -> Fallible<Got> {
    if run.optional("image")?.is_some() {
        let seer = Seer::of(run)?;
        let rolled = rolled(run, &seer.attention(&run.picture()?)?)?;
        return seer.maps(&rolled, fields(&rolled)?);
    }
    let bert = run.bert()?;
    fields(&rolled(run, &bert.attention(&run.text(&bert)?)?)?)
}

fn rolled(run: &Run, maps: &[Tensor]) -> Fallible<Tensor> {
    let rolled = match (run.word("residual")?, run.word("normalize")?) {
        ("(A+I)/2", "rows") => rollout(maps, &options(run)?)?,
        ("0.5*A+0.5*I, but the first layer enters as plain A", "none") => plain_first(maps, &options(run)?)?,
        other => return Err(format!("the rollout {other:?} is not known").into()),
    };
    Ok(rolled)
}

/// Rollout of maps `(L,h,t,t)`.
pub fn matrices(run: &Run) -> Fallible<Got> {
    let maps = layers(&run.input("attentions")?.tensor(run.dtype)?)?;
    match run.word("variant") {
        Err(_) => fields(&rollout(&maps, &options(run)?)?),
        Ok("boctrl") => fields(&plain_first(&maps, &options(run)?)?),
        Ok(other) => Err(format!("the variant `{other}` is not known").into()),
    }
}

/// `(L,h,t,t)` → `L × (1,h,t,t)`.
pub fn layers(maps: &Tensor) -> Fallible<Vec<Tensor>> {
    Ok((0..maps.dim(0)?).map(|layer| maps.narrow(0, layer, 1)).collect::<Result<_, _>>()?)
}

/// BoCtrl-C's variant: the first layer enters without its residual. That is our rollout of the layers above it, times its
/// mean map. (Rows of mean maps sum to one, so that dividing by their sums, which that code leaves out, changes nothing.)
pub fn plain_first(maps: &[Tensor], options: &Rollout) -> Fallible<Tensor> {
    if *options != Rollout::default() {
        return Err("with the first layer plain, heads are averaged and nothing is discarded".into());
    }
    let (first, above) = maps.split_first().ok_or("no attention maps")?;
    let first = first.mean(1)?;
    if above.is_empty() { Ok(first) } else { Ok(rollout(above, options)?.matmul(&first)?) }
}

fn options(run: &Run) -> Fallible<Rollout> {
    let (fusion, discard) = (fusion(run.word("head_fusion")?)?, run.number("discard_ratio")?);
    Ok(Rollout { fusion, discard, ..Rollout::default() })
}

/// A fusion by its name in the files.
pub fn fusion(name: &str) -> Fallible<HeadFusion> {
    match name {
        "mean" => Ok(HeadFusion::Mean),
        "max" => Ok(HeadFusion::Max),
        "min" => Ok(HeadFusion::Min),
        other => Err(format!("the fusion `{other}` is not known").into()),
    }
}

fn fields(rolled: &Tensor) -> Fallible<Got> {
    let rolled = rolled.squeeze(0)?;
    Ok(Got::from([("rollout".into(), Value::of(&rolled)?), ("cls_row".into(), Value::of(&rolled.get(0)?)?)]))
}
