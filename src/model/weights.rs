//! Named weights, with the spellings that real checkpoints use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::blocks::{LayerNorm, Linear, RmsNorm, Weight};
use super::embedding::Embedding;
use super::gguf::Gguf;
use super::pytorch::Pytorch;
use crate::seed::seeded;
use crate::{Error, Result};

/// A checkpoint's tensors, by name.
#[derive(Clone)]
pub(crate) struct Weights {
    store: Store,
    shapes: Shapes,
    file: PathBuf,
    /// Some checkpoints name every tensor of the backbone with a prefix, `bert.`, and some with none.
    prefix: &'static str,
    shuffle: Option<Shuffle>,
}

/// The shapes of tensors by their names, as the headers of files have them.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

/// Which weights are put in another order within their tensors.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::Shuffle;
/// assert_eq!(Load::shuffled(7).shuffled, Some(Shuffle { seed: 7, from: None }));
/// assert_eq!(Load::shuffled_from(2, 7).shuffled, Some(Shuffle { seed: 7, from: Some(2) }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shuffle {
    /// Same seed, same order.
    pub seed: u64,
    /// Only those of blocks from this number on, and of what comes after the blocks: the number of blocks leaves all of them, and
    /// shuffles the head alone, and more is refused. `None`: every weight.
    pub from: Option<usize>,
}

impl Shuffle {
    fn reaches(self, name: &str) -> bool {
        self.from.is_none_or(|from| match block(name) {
            Some(number) => number >= from,
            None => !BEFORE_BLOCKS.iter().any(|part| name.contains(part)),
        })
    }
}

/// What the names of tensors have in them that come before the first block.
const BEFORE_BLOCKS: [&str; 10] =
    ["embed", "cls_token", "dist_token", "reg_token", "conv1", "stem.", "norm_pre", "pre_layrnorm", "ln_pre", "wte"];

/// The number of the block a tensor is in, by its name: 3 of `encoder.layer.3.output.dense.weight`.
fn block(name: &str) -> Option<usize> {
    const BLOCKS: [&str; 5] = ["layer", "layers", "blocks", "resblocks", "h"];
    let (parts, following) = (name.split('.'), name.split('.').skip(1));
    parts.zip(following).find(|(stem, _)| BLOCKS.contains(stem)).and_then(|(_, number)| number.parse().ok())
}

/// Where the tensors are.
#[derive(Clone)]
enum Store {
    Safetensors(VarBuilder<'static>),
    /// To be converted to a precision.
    Pytorch(Pytorch, DType, Device),
    /// Packed, to be unpacked to a precision.
    Gguf(Gguf, DType, Device),
}

impl Weights {
    /// Of safetensors files.
    pub fn new(builder: VarBuilder<'static>, shapes: Shapes, file: PathBuf) -> Self {
        Self { store: Store::Safetensors(builder), shapes, file, prefix: "", shuffle: None }
    }

    /// Of PyTorch's own files, converted to a precision where they are needed.
    pub fn pytorch(pytorch: Pytorch, file: PathBuf, dtype: DType, device: Device) -> Self {
        let shapes = pytorch.shapes().collect();
        Self { store: Store::Pytorch(pytorch, dtype, device), shapes, file, prefix: "", shuffle: None }
    }

    /// Of a GGUF file, unpacked to a precision where they are needed.
    pub fn packed(gguf: Gguf, dtype: DType, device: Device) -> Self {
        let (shapes, file) = (gguf.shapes().collect(), gguf.path().into());
        Self { store: Store::Gguf(gguf, dtype, device), shapes, file, prefix: "", shuffle: None }
    }

    /// The same numbers, those of some tensors in another order.
    pub fn shuffled(self, shuffle: Option<Shuffle>) -> Self {
        Self { shuffle, ..self }
    }

    /// The same weights for a stack in which blocks are not counted: as they are, unless all are shuffled.
    pub fn uncounted(&self) -> Self {
        Self { shuffle: self.shuffle.filter(|shuffle| shuffle.from.is_none()), ..self.clone() }
    }

    /// Errors if weights are to be shuffled from a block on that so many blocks have not.
    pub fn shuffled_within(&self, blocks: usize) -> Result<()> {
        match self.shuffle.and_then(|shuffle| shuffle.from) {
            Some(from) if from > blocks => Err(Error::OutOfRange {
                what: "the block to shuffle from,".into(),
                index: from,
                len: blocks,
                hint: format!("; {blocks} shuffles the head alone"),
            }),
            _ => Ok(()),
        }
    }

    /// The same weights, where names may or may not begin with `prefix`.
    pub fn with_prefix(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    /// Whether there is such a tensor, in any spelling.
    pub fn contains(&self, name: &str) -> bool {
        self.spelling(name).is_some()
    }

    /// How many rows a matrix has, as its file's header says; `None` if there is no such tensor.
    pub fn rows(&self, name: &str) -> Option<usize> {
        self.shapes[&self.spelling(name)?].first().copied()
    }

    /// How many columns a matrix has; `None` if there is no such matrix.
    pub fn columns(&self, name: &str) -> Option<usize> {
        self.shapes[&self.spelling(name)?].get(1).copied()
    }

    /// How many blocks there are: `blocks.0.…`, `blocks.1.…`, and so on.
    ///
    /// Errors: none; a gap; not as many as the configuration promises, if it does; those of
    /// [`shuffled_within`](Self::shuffled_within).
    pub fn blocks(&self, stem: &str, promised: Option<usize>) -> Result<usize> {
        let numbered = |number: &usize| self.under(&format!("{stem}{number}.")).next().is_some();
        let count = (0..).take_while(numbered).count();
        let counted = |rest: &str| rest.split('.').next().is_some_and(|n| n.parse().is_ok_and(|n: usize| n < count));
        if count == 0 {
            return Err(Error::file(&self.file, format!("there are no weights whose names begin with `{stem}0.`")));
        }
        if let Some(rest) = self.under(stem).find(|rest| !counted(rest)) {
            return Err(Error::file(
                &self.file,
                format!("there is `{stem}{rest}`, but nothing begins with `{stem}{count}.`: is the file whole?"),
            ));
        }
        match promised {
            Some(promised) if promised != count => Err(Error::argument(format!(
                "config.json promises {promised} blocks, and the weights have {count}. Do they belong together?"
            ))),
            _ => self.shuffled_within(count).map(|()| count),
        }
    }

    /// Errors if something in a part of the network has a name that the reader of the weights does not know: the forward
    /// would be another network's.
    pub fn only(&self, stem: &str, known: &[&str]) -> Result<()> {
        match self.under(stem).find(|rest| !known.iter().any(|name| is_of(rest, name))) {
            Some(rest) => Err(Error::file(
                &self.file,
                format!("`{stem}{rest}` belongs to no part that this reader knows, so this is another architecture"),
            )),
            None => Ok(()),
        }
    }

    /// What follows a stem in the names that begin with it, with the prefix or without.
    fn under<'a>(&'a self, stem: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let (plain, prefixed) = (stem.to_string(), format!("{}{stem}", self.prefix));
        self.shapes
            .keys()
            .filter_map(move |name| name.strip_prefix(prefixed.as_str()).or_else(|| name.strip_prefix(plain.as_str())))
    }

    /// A tensor of the shape it must have.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        Ok(self.weight(shape, name)?.dense()?)
    }

    /// A tensor of whatever shape it has; `None` if there is no such tensor.
    pub fn whole(&self, name: &str) -> Result<Option<Tensor>> {
        self.spelling(name).map(|spelling| Ok(self.read(&spelling)?.dense()?)).transpose()
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
                self.in_order(&tensor, spelling)
            }
            Store::Pytorch(pytorch, dtype, device) => {
                let tensor = pytorch.tensor(spelling, *dtype, device)?.ok_or_else(|| self.missing(spelling))?;
                self.in_order(&tensor, spelling)
            }
            Store::Gguf(gguf, dtype, device) => {
                let packed = Weight::Quantised(Arc::new(gguf.tensor(spelling, device)?), *dtype);
                if packed.is_packed() { Ok(packed) } else { Ok(Weight::Dense(packed.dense()?)) }
            }
        }
    }

    /// A tensor's numbers one after another, as they are or as they were asked to be shuffled.
    fn in_order(&self, tensor: &Tensor, spelling: &str) -> Result<Weight> {
        Ok(Weight::Dense(match self.shuffle {
            Some(shuffle) if shuffle.reaches(spelling) => shuffled(tensor, spelling, shuffle.seed)?,
            _ => tensor.contiguous()?,
        }))
    }

    /// `name.weight (v,c)`, a vocabulary's embeddings.
    pub fn embedding(&self, name: &str, tokens: usize, channels: usize) -> Result<Embedding> {
        Ok(Embedding::new(self.weight((tokens, channels), &format!("{name}.weight"))?))
    }

    /// `name.weight (v,c)` of a vocabulary of any size.
    pub fn embedding_of(&self, name: &str, channels: usize) -> Result<Embedding> {
        self.embedding(name, self.rows(&format!("{name}.weight")).unwrap_or(0), channels)
    }

    /// `name.weight (d,c)` and, if the checkpoint has one, `name.bias (d,)`.
    pub fn linear(&self, name: &str, from: usize, to: usize) -> Result<Linear> {
        self.linear_of([&format!("{name}.weight"), &format!("{name}.bias")], from, to)
    }

    /// A weight `(d,c)` and, if the checkpoint has one, a bias `(d,)`, by their whole names.
    pub fn linear_of(&self, [weight, bias]: [&str; 2], from: usize, to: usize) -> Result<Linear> {
        let weight = self.weight((to, from), weight)?;
        Linear::of(weight, self.optional(to, bias)?)
    }

    /// A tensor of the shape it must have, if there is one of that name.
    pub fn optional(&self, shape: impl Into<Shape>, name: &str) -> Result<Option<Tensor>> {
        self.contains(name).then(|| self.get(shape, name)).transpose()
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
        spellings.flat_map(|name| [format!("{}{name}", self.prefix), name]).find(|name| self.shapes.contains_key(name))
    }

    fn missing(&self, name: &str) -> Error {
        let like = self.shapes.keys().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        let has = format!("it has {} tensors, such as {like}", self.shapes.len());
        Error::file(
            &self.file,
            format!("there is no tensor `{name}`; {has}. Do config.json and the weights belong together?"),
        )
    }
}

/// A tensor's numbers in an order that its name and the seed decide.
fn shuffled(tensor: &Tensor, name: &str, seed: u64) -> Result<Tensor> {
    let mut order: Vec<u32> = (0..tensor.elem_count() as u32).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seeded(seed, name.bytes())));
    let order = Tensor::from_vec(order, tensor.elem_count(), tensor.device())?;
    Ok(tensor.flatten_all()?.index_select(&order, 0)?.reshape(tensor.shape())?)
}

/// Whether what is left of a tensor's name is a part's: `attn.qkv` of `attn.qkv.weight`, `blocks.` of all that is inside.
fn is_of(rest: &str, name: &str) -> bool {
    rest.strip_prefix(name)
        .is_some_and(|end| name.ends_with('.') || matches!(end, "" | ".weight" | ".bias" | ".gamma" | ".beta"))
}

fn wrong_shape(name: &str, expected: &Shape, got: &[usize]) -> String {
    let expected = expected.dims();
    format!(
        "`{name}` has shape {got:?}, but config.json asks for {expected:?}. Do config.json and the weights belong together?"
    )
}
