//! Attention patterns by the names of the files.

use pellucid::prelude::*;

use super::Fallible;
use super::kinds::Got;
use super::value::Value;

/// `L × (1,h,t,t)`: whole, by layer, and by layer and head.
pub fn fields(maps: &[Tensor]) -> Fallible<Got> {
    let maps = Tensor::cat(maps, 0)?;
    let mut got = Got::from([("attentions".into(), Value::of(&maps)?)]);
    let (layers, heads, ..) = maps.dims4()?;
    for layer in 0..layers {
        got.insert(format!("attentions_layer{layer}"), Value::of(&maps.get(layer)?)?);
        for head in 0..heads {
            got.insert(format!("attention_layer{layer}_head{head}"), Value::of(&maps.get(layer)?.get(head)?)?);
        }
    }
    Ok(got)
}
