//! Texts as token ids.

use candle_core::DType;
use pellucid::model::text::Tokenizer;
use pellucid::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::super::Fallible;
use super::super::check::Check;
use super::checks::Checks;
use super::set::Set;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

/// The ids of a text, with pictures in it or without.
pub fn run(set: &Set, case: &Json) -> Fallible<Vec<Check>> {
    let Case { text, ids } = Case::deserialize(case)?;
    let vlm = set.vlm(DType::F32, &Map::new())?;
    let theirs = without_paths(&ids, vlm.tokenizer())?;
    let ours = match text.matches("<img>").count() {
        0 => vlm.tokenizer().read_plain(&text)?.ids(),
        pictures => vlm.read(&text, &vec![black()?; pictures])?.text().ids(),
    };
    let mut checks = Checks::new(DType::F32);
    checks.exact("ids", &ours.as_slice().into(), &theirs.as_slice().into());
    Ok(checks.all())
}

/// The original writes a picture's path between its tags, which the model does not see: here every token there is a pad.
pub fn without_paths(ids: &[u32], tokenizer: &Tokenizer) -> Fallible<Vec<u32>> {
    let [open, pad, close] = ["<img>", "<imgpad>", "</img>"].map(|tag| tokenizer.id(tag));
    let (open, pad, close) = (open?, pad?, close?);
    let mut inside = false;
    let seen = |&id: &u32| {
        inside &= id != close;
        let seen = if inside { pad } else { id };
        inside |= id == open;
        seen
    };
    Ok(ids.iter().map(seen).collect())
}

fn black() -> Result<Image> {
    Image::from_pixels(&Tensor::zeros((3, 8, 8), DType::F32, &Device::Cpu)?)
}
