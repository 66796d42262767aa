//! Named weights, with the spellings that real checkpoints use.

use std::collections::BTreeSet;
use std::path::PathBuf;

use candle_core::{Shape, Tensor};
use candle_nn::VarBuilder;

use super::blocks::{LayerNorm, Linear};
use crate::{Error, Result};

/// A checkpoint's tensors, by name.
#[derive(Clone)]
pub(crate) struct Weights {
    builder: VarBuilder<'static>,
    names: BTreeSet<String>,
    file: PathBuf,
    /// Some checkpoints name every tensor of the backbone with a prefix, `bert.`, and some with none.
    prefix: &'static str,
}

impl Weights {
    pub fn new(builder: VarBuilder<'static>, names: Vec<String>, file: PathBuf) -> Self {
        Self { builder, names: names.into_iter().collect(), file, prefix: "" }
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
        let tensor = self.builder.get_unchecked(&self.spelling(name)?).ok()?;
        tensor.dims().first().copied()
    }

    /// A tensor of the shape it must have.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        let shape = shape.into();
        let spelling = self.spelling(name).ok_or_else(|| self.missing(name))?;
        let tensor = self.builder.get_unchecked(&spelling).map_err(|error| Error::file(&self.file, error))?;
        match tensor.shape() == &shape {
            true => Ok(tensor),
            false => Err(Error::file(&self.file, wrong_shape(&spelling, &shape, &tensor))),
        }
    }

    /// `name.weight (d,c)` and, if the checkpoint has one, `name.bias (d,)`.
    pub fn linear(&self, name: &str, from: usize, to: usize) -> Result<Linear> {
        let bias = format!("{name}.bias");
        let bias = self.contains(&bias).then(|| self.get(to, &bias)).transpose()?;
        Linear::new(self.get((to, from), &format!("{name}.weight"))?, bias)
    }

    /// `name.weight (c,)` and `name.bias (c,)`.
    pub fn layer_norm(&self, name: &str, channels: usize, eps: f64) -> Result<LayerNorm> {
        let get = |part: &str| self.get(channels, &format!("{name}.{part}"));
        LayerNorm::new(get("weight")?, get("bias")?, eps)
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

fn wrong_shape(name: &str, expected: &Shape, tensor: &Tensor) -> String {
    let (expected, got) = (expected.dims(), tensor.dims());
    format!(
        "`{name}` has shape {got:?}, but config.json asks for {expected:?}. Do config.json and the weights belong together?"
    )
}
