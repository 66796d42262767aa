//! Pictures of any size, as the model gets them.

use candle_core::DType;
use pellucid::prelude::*;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json};

use super::super::Fallible;
use super::super::check::Check;
use super::super::value::Value;
use super::array::Array;
use super::checks::Checks;
use super::set::Set;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    input_u8_hwc: Array,
    resized_u8_hwc: Array,
    normalised_chw: Option<Array>,
    /// A later Pillow's, which is off by a byte itself.
    #[serde(default, rename = "resized_u8_hwc_pillow13")]
    _later: IgnoredAny,
}

/// The picture resized, no byte off by more than one and one in a hundred at all; and the same normalised.
pub fn run(set: &Set, case: &Json) -> Fallible<Vec<Check>> {
    let Case { input_u8_hwc, resized_u8_hwc, normalised_chw, .. } = Case::deserialize(case)?;
    let vlm = set.vlm(DType::F32, &Map::new())?;
    let fitted = vlm.processor().fit(&picture(&input_u8_hwc)?)?;
    let (ours, theirs) = (bytes(&fitted)?, resized_u8_hwc.value()?);
    let mut checks = Checks::new(DType::F32);
    checks.within("resized_u8_hwc", &ours, &theirs, 1.0);
    checks.within("resized_u8_hwc, share of bytes that differ", &differing(&ours, &theirs)?.into(), &0.0.into(), 0.01);
    if let Some(normalised) = normalised_chw {
        let ours = Value::of(&vlm.processor().normalise(&fitted.pixels()?)?)?;
        let thinnest = vlm.processor().normalisation().1.into_iter().fold(f64::INFINITY, f64::min);
        checks.within("normalised_chw", &ours, &normalised.value()?, (1.0 / 255.0 + 1e-6) / thinnest);
    }
    Ok(checks.all())
}

fn picture(bytes: &Array) -> Fallible<Image> {
    let pixels = (bytes.value()?.tensor(DType::F64)? / 255.0)?;
    Ok(Image::from_pixels(&pixels.permute((2, 0, 1))?)?)
}

/// `(h,w,3)`.
fn bytes(picture: &Image) -> Fallible<Value> {
    Value::of(&(picture.pixels()?.permute((1, 2, 0))? * 255.0)?.round()?)
}

/// The share of numbers that are not the same.
fn differing(ours: &Value, theirs: &Value) -> Fallible<f64> {
    let (ours, theirs) = (ours.numbers()?, theirs.numbers()?);
    let differ = ours.iter().zip(theirs).filter(|(a, b)| a != b).count();
    Ok(differ as f64 / theirs.len() as f64)
}
