//! What is there of an input and what is not: tokens that are dropped from a sequence, or zeroed in it.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::tensor::numbers;
use crate::{Error, Result};

/// `(n,s)` of ones and zeros → for each of n variants, whether each of s parts is there.
///
/// Errors: another width; no variants; other numbers.
pub(crate) fn presence(present: &Tensor, parts: usize) -> Result<Vec<Vec<bool>>> {
    match *present.dims() {
        [n, s] if n > 0 && s == parts && s > 0 => (),
        _ => return Err(Error::shape("what is present", format!("(n, {parts}), n at least 1"), present.dims())),
    }
    let flags = numbers(present)?;
    match flags.iter().find(|flag| **flag != 0.0 && **flag != 1.0) {
        Some(other) => Err(Error::argument(format!("a part is there, 1, or not, 0; found {other}"))),
        None => Ok(flags.chunks(parts).map(|row| row.iter().map(|flag| *flag == 1.0).collect()).collect()),
    }
}

/// Tokens `(1,t,c)`, which of them n variants keep, `each: (m,k,c) → (m,v)` → `(n,v)`: variants of one length go together.
pub(super) fn shortened(x: &Tensor, kept: &[Vec<bool>], each: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let mut by_length = BTreeMap::<usize, Vec<usize>>::new();
    for (variant, kept) in kept.iter().enumerate() {
        by_length.entry(kept.iter().filter(|kept| **kept).count()).or_default().push(variant);
    }
    let rows = |variants: &[usize]| variants.iter().map(|variant| some(x, &kept[*variant])).collect::<Result<Vec<_>>>();
    let outputs = by_length.values().map(|variants| each(&Tensor::cat(&rows(variants)?, 0)?));
    let outputs = Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)?;
    let mut places = vec![0u32; kept.len()];
    by_length.values().flatten().zip(0..).for_each(|(variant, place)| places[*variant] = place);
    Ok(outputs.index_select(&Tensor::new(places, outputs.device())?, 0)?)
}

/// Tokens `(1,t,c)` → those of n variants, `(n,t,c)`: zero where a variant does not keep one.
pub(super) fn zeroed(x: &Tensor, kept: &[Vec<bool>]) -> Result<Tensor> {
    let kept_or_not = kept.iter().flatten().map(|&kept| f32::from(u8::from(kept)));
    let kept = Tensor::from_iter(kept_or_not, &Device::Cpu)?.reshape((kept.len(), x.dim(1)?, 1))?;
    Ok(x.broadcast_mul(&kept.to_dtype(x.dtype())?.to_device(x.device())?)?)
}

/// `(1,t,c)` → the tokens that are kept, `(1,k,c)`.
pub(super) fn some(x: &Tensor, kept: &[bool]) -> Result<Tensor> {
    Ok(x.index_select(&Tensor::new(places(kept), x.device())?, 1)?)
}

/// Where the tokens that are kept stand.
pub(crate) fn places(kept: &[bool]) -> Vec<u32> {
    (0..).zip(kept).filter(|(_, kept)| **kept).map(|(place, _)| place).collect()
}
