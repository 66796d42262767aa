//! Attention rollout: of a model's attention, and of given maps.

use pellucid::prelude::*;

use super::Fallible;
use super::case::Run;
use super::kinds::Got;
use super::value::Value;

/// The discarding this crate does, as the files write it.
pub const DISCARD: &str =
    "zero the int(N*N*ratio) smallest entries of the fused map, flat index 0 exempt, before adding I";

/// Rollout of a text's attention.
pub fn attention(run: &Run) -> Fallible<Got> {
    let bert = run.bert()?;
    let maps = bert.attention(&run.text(&bert)?)?;
    let rolled = match (run.word("residual")?, run.word("normalize")?) {
        ("(A+I)/2", "rows") => rollout(&maps, &options(run)?)?,
        ("0.5*A+0.5*I, but the first layer enters as plain A", "none") => plain_first(&maps, &options(run)?)?,
        other => return Err(format!("the rollout {other:?} is not known").into()),
    };
    fields(&rolled)
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
fn plain_first(maps: &[Tensor], options: &Rollout) -> Fallible<Tensor> {
    if *options != Rollout::default() {
        return Err("with the first layer plain, heads are averaged and nothing is discarded".into());
    }
    let (first, above) = maps.split_first().ok_or("no attention maps")?;
    let first = first.mean(1)?;
    if above.is_empty() { Ok(first) } else { Ok(rollout(above, options)?.matmul(&first)?) }
}

fn options(run: &Run) -> Fallible<Rollout> {
    let fusion = match run.word("head_fusion")? {
        "mean" => HeadFusion::Mean,
        "max" => HeadFusion::Max,
        "min" => HeadFusion::Min,
        other => return Err(format!("the fusion `{other}` is not known").into()),
    };
    Ok(Rollout { fusion, discard: run.number("discard_ratio")? })
}

fn fields(rolled: &Tensor) -> Fallible<Got> {
    let rolled = rolled.squeeze(0)?;
    Ok(Got::from([("rollout".into(), Value::of(&rolled)?), ("cls_row".into(), Value::of(&rolled.get(0)?)?)]))
}
