//! Named weights, with the spellings that real checkpoints use.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;

use super::blocks::{LayerNorm, Linear, RmsNorm, Weight};
use super::embedding::Embedding;
use super::gguf::Gguf;
use crate::{Error, Result};

/// A checkpoint's tensors, by name.
#[derive(Clone)]
pub(crate) struct Weights {
    store: Store,
    names: BTreeSet<String>,
    file: PathBuf,
    /// Some checkpoints name every tensor of the backbone with a prefix, `bert.`, and some with none.
    prefix: &'static str,
}

/// Where the tensors are.
#[derive(Clone)]
enum Store {
    Safetensors(VarBuilder<'static>),
    /// Packed, to be unpacked to a precision.
    Gguf(Gguf, DType, Device),
}

impl Weights {
    /// Of safetensors files.
    pub fn new(builder: VarBuilder<'static>, names: Vec<String>, file: PathBuf) -> Self {
        Self { store: Store::Safetensors(builder), names: names.into_iter().collect(), file, prefix: "" }
    }

    /// Of a GGUF file, unpacked to a precision where they are needed.
    pub fn packed(gguf: Gguf, dtype: DType, device: Device) -> Self {
        let (names, file) = (gguf.names().collect(), gguf.path().into());
        Self { store: Store::Gguf(gguf, dtype, device), names, file, prefix: "" }
    }

    /// The same weights, where names may or may not begin with `prefix`.
    pub fn with_prefix(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    /// Whether there is such a tensor, in any spelling.
    pub fn contains(&self, name: &str) -> bool {
        self.spelling(name).is_some()
    }

    /// How many rows a matrix has; `None` if there is no such tensor.
    pub fn rows(&self, name: &str) -> Option<usize> {
        let weight = self.read(&self.spelling(name)?).ok()?;
        weight.dims().first().copied()
    }

    /// A tensor of the shape it must have.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        Ok(self.weight(shape, name)?.dense()?)
    }

    /// The same as it is stored: packed, if it is a quantised matrix.
    fn weight(&self, shape: impl Into<Shape>, name: &str) -> Result<Weight> {
        let shape = shape.into();
        let spelling = self.spelling(name).ok_or_else(|| self.missing(name))?;
        let weight = self.read(&spelling)?;
        match weight.dims() == shape.dims() {
            true => Ok(weight),
            false => Err(Error::file(&self.file, wrong_shape(&spelling, &shape, weight.dims()))),
        }
    }

    fn read(&self, spelling: &str) -> Result<Weight> {
        match &self.store {
            Store::Safetensors(builder) => {
                let tensor = builder.get_unchecked(spelling).map_err(|error| Error::file(&self.file, error))?;
                Ok(Weight::Dense(tensor.contiguous()?))
            }
            Store::Gguf(gguf, dtype, device) => {
                let packed = Weight::Quantised(Arc::new(gguf.tensor(spelling, device)?), *dtype);
                if packed.is_packed() { Ok(packed) } else { Ok(Weight::Dense(packed.dense()?)) }
            }
        }
    }

    /// `name.weight (v,c)`, a vocabulary's embeddings.
    pub fn embedding(&self, name: &str, tokens: usize, channels: usize) -> Result<Embedding> {
        Ok(Embedding::new(self.weight((tokens, channels), &format!("{name}.weight"))?))
    }

    /// `name.weight (d,c)` and, if the checkpoint has one, `name.bias (d,)`.
    pub fn linear(&self, name: &str, from: usize, to: usize) -> Result<Linear> {
        let bias = format!("{name}.bias");
        let bias = self.contains(&bias).then(|| self.get(to, &bias)).transpose()?;
        Linear::of(self.weight((to, from), &format!("{name}.weight"))?, bias)
    }

    /// `name.weight (c,)` and `name.bias (c,)`.
    pub fn layer_norm(&self, name: &str, channels: usize, eps: f64) -> Result<LayerNorm> {
        let get = |part: &str| self.get(channels, &format!("{name}.{part}"));
        LayerNorm::new(get("weight")?, get("bias")?, eps)
    }

    /// `name.weight (c,)`.
    pub fn rms_norm(&self, name: &str, channels: usize, eps: f64) -> Result<RmsNorm> {
        RmsNorm::new(self.get(channels, &format!("{name}.weight"))?, eps)
    }

    /// How this checkpoint spells a name: with or without the prefix, with TensorFlow's `gamma` and `beta` or without.
    fn spelling(&self, name: &str) -> Option<String> {
        let stem = |old: &str, new: &str| name.strip_suffix(old).map(|stem| format!("{stem}{new}"));
        let old = stem("LayerNorm.weight", "LayerNorm.gamma").or_else(|| stem("LayerNorm.bias", "LayerNorm.beta"));
        let spellings = std::iter::once(name.to_string()).chain(old);
        spellings.flat_map(|name| [format!("{}{name}", self.prefix), name]).find(|name| self.names.contains(name))
    }

    fn missing(&self, name: &str) -> Error {
        let like = self.names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        let has = format!("it has {} tensors, such as {like}", self.names.len());
        Error::file(
            &self.file,
            format!("there is no tensor `{name}`; {has}. Do config.json and the weights belong together?"),
        )
    }
}

fn wrong_shape(name: &str, expected: &Shape, got: &[usize]) -> String {
    let expected = expected.dims();
    format!(
        "`{name}` has shape {got:?}, but config.json asks for {expected:?}. Do config.json and the weights belong together?"
    )
}
