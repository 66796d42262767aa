//! Where a model comes from: embedded in the crate, a folder, or the hub. The files are the same everywhere.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::chat::ChatTemplate;
use super::gguf::Gguf;
use super::hub::HubModel;
use super::pytorch::Pytorch;
use super::text::Tokenizer;
use super::weights::{Shapes, Shuffle, Weights};
use crate::{Error, Result, device, zoo};

/// How to load a model.
///
/// ```
/// # use pellucid::prelude::*;
/// let precise = Load { dtype: DType::F64, device: Some(Device::Cpu), ..Load::default() };
/// let bert = Bert::load_with("pellucid/tiny-bert-sentiment", &precise)?;
/// assert_eq!(bert.embed(&bert.read("a fine film")?)?.dtype(), DType::F64);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Load {
    /// A branch, tag or commit on the hub; `main` if `None`.
    pub revision: Option<String>,
    /// The precision of the weights in memory, whatever the file's: `F32` for work, `F64` for proofs.
    pub dtype: DType,
    /// Where the weights live, and with them what the model reads; [`device()`] if `None`: the CPU, or what
    /// `PELLUCID_DEVICE` names. Of a GPU, open it once and with a stream that all threads share, `Device::new_cuda_with_stream`.
    pub device: Option<Device>,
    /// Where a model reads pictures of any size: at most so many pixels, if fewer than its own limit. Memory and time of the vision
    /// tower grow with their square.
    pub most_pixels: Option<usize>,
    /// Weight tensors whose numbers are put in another order: a network of the same make and the same numbers that has learnt
    /// nothing, or nothing in its last layers, for sanity checks of explanations (Adebayo et al. 2018, arXiv 1810.03292, §3).
    pub shuffled: Option<Shuffle>,
}

impl Default for Load {
    fn default() -> Self {
        Self { revision: None, dtype: DType::F32, device: None, most_pixels: None, shuffled: None }
    }
}

impl Load {
    /// In `f64`, where finite differences and conservation laws hold to rounding.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load_with("pellucid/tiny-bert-sentiment", &Load::f64())?;
    /// let text = bert.read("I loved it.")?;
    /// let positive = Target::Logit(bert.label("positive")?);
    /// assert!(grad_check(|x| positive.of(&bert.logits(&text, x)?), &bert.embed(&text)?)? < 1e-6);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn f64() -> Self {
        Self { dtype: DType::F64, ..Self::default() }
    }

    /// With shuffled weights.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let says = |load: &Load| -> Result<Vec<f32>> {
    ///     let bert = Bert::load_with("pellucid/tiny-bert-sentiment", load)?;
    ///     let text = bert.read("I loved it.")?;
    ///     Ok(bert.logits(&text, &bert.embed(&text)?.unsqueeze(0)?)?.squeeze(0)?.to_vec1()?)
    /// };
    /// assert_ne!(says(&Load::shuffled(0))?, says(&Load::default())?);
    /// assert_eq!(says(&Load::shuffled(0))?, says(&Load::shuffled(0))?);    // same seed, same order
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn shuffled(seed: u64) -> Self {
        Self { shuffled: Some(Shuffle { seed, from: None }), ..Self::default() }
    }

    /// With the weights of the head shuffled, and those of blocks from the last down to this number.
    ///
    /// Loading refuses a number beyond that of the blocks. A [`Clip`](super::Clip) counts those of its image tower, and a
    /// [`Vlm`](super::Vlm) takes no number.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let whole = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let forgetful = Bert::load_with("pellucid/tiny-bert-sentiment", &Load::shuffled_from(2, 0))?;
    /// let text = whole.read("I loved it.")?;
    /// let first = |bert: &Bert| -> Result<Vec<f32>> { Ok(bert.attention(&text)?[0].flatten_all()?.to_vec1()?) };
    /// assert_eq!(first(&forgetful)?, first(&whole)?);    // block 0 is as it was
    /// assert_ne!(forgetful.predict(&text)?, whole.predict(&text)?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn shuffled_from(block: usize, seed: u64) -> Self {
        Self { shuffled: Some(Shuffle { seed, from: Some(block) }), ..Self::default() }
    }
}

/// A model's files, in the Hugging Face layout.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::Checkpoint;
/// let checkpoint = Checkpoint::open("pellucid/tiny-bert-sentiment", &Load::default())?;
/// let config: std::collections::BTreeMap<String, serde_json::Value> = checkpoint.config()?;
/// assert_eq!((checkpoint.name(), config["num_hidden_layers"].as_u64()), ("pellucid/tiny-bert-sentiment", Some(3)));
/// assert!(checkpoint.file("tokenizer.json")?.is_some() && checkpoint.file("tokenizer.model")?.is_none());
/// assert_eq!(checkpoint.tokenizer()?.read("I loved it.")?.len(), 6);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub struct Checkpoint {
    name: String,
    files: Files,
    load: Load,
    device: Device,
}

enum Files {
    Embedded(&'static [(&'static str, &'static [u8])]),
    Folder(PathBuf),
    Hub(Box<HubModel>),
    /// A GGUF file, and the folder it lies in.
    Gguf(Gguf, PathBuf),
}

impl Checkpoint {
    /// Finds a model, in this order: `"pellucid/…"` embedded in the crate; a folder; `$PELLUCID_MODELS/NAME`; the hub's
    /// local cache; the hub. A name that ends in `.gguf` is a file: on disk, or `ORGANISATION/NAME/FILE.gguf` on the hub.
    ///
    /// Errors: those of [`device()`]; an unknown embedded model; a path that is no folder; a broken GGUF file; later, when files are
    /// read, no network.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::Checkpoint;
    /// let error = Checkpoint::open("pellucid/gpt-5", &Load::default()).err().unwrap();
    /// assert!(error.to_string().contains("there is pellucid/tiny-bert-sentiment"));    // and what else is embedded
    /// ```
    pub fn open(source: &str, load: &Load) -> Result<Self> {
        let device = load.device.clone().map_or_else(device, Ok)?;
        let files = if let Some(name) = source.strip_prefix("pellucid/") {
            Files::Embedded(zoo::files(name)?)
        } else if source.ends_with(".gguf") {
            gguf(source, load)?
        } else if let Some(folder) = local_folder(source) {
            Files::Folder(folder)
        } else if looks_like_a_path(source) {
            return Err(Error::NotFound(format!(
                "there is no folder `{source}`; a model's folder holds its config.json"
            )));
        } else {
            Files::Hub(Box::new(HubModel::new(source, load.revision.as_deref())?))
        };
        Ok(Self { name: source.into(), files, load: load.clone(), device })
    }

    /// The name it was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A small file's contents; `None` if there is no such file.
    pub fn file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        if let Files::Embedded(files) = &self.files {
            return Ok(files.iter().find(|file| file.0 == name).map(|file| Cow::Borrowed(file.1)));
        }
        let Some(path) = self.path(name)? else { return Ok(None) };
        std::fs::read(&path).map(|bytes| Some(Cow::Owned(bytes))).map_err(|error| Error::file(path, error))
    }

    /// Where a file lies on disk, fetched if need be; `None` if there is no such file.
    fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        match &self.files {
            Files::Embedded(_) => Ok(None),
            Files::Gguf(_, folder) | Files::Folder(folder) => Ok(Some(folder.join(name)).filter(|path| path.is_file())),
            Files::Hub(model) => model.file(name),
        }
    }

    /// Where the weights go.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// At most so many pixels of a picture, if a limit was asked for.
    pub(crate) fn most_pixels(&self) -> Option<usize> {
        self.load.most_pixels
    }

    /// How messages call a file.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        Path::new(&self.name).join(name)
    }

    /// An error whose cause is what the configuration says.
    pub(crate) fn at_fault(&self, error: Error) -> Error {
        match error {
            Error::Argument(problem) => Error::file(self.place("config.json"), problem),
            other => other,
        }
    }

    fn required(&self, name: &str, why: &str) -> Result<Cow<'static, [u8]>> {
        self.file(name)?.ok_or_else(|| self.lacks(name, why))
    }

    /// What is said of a file that is not there: where nothing can be fetched, it may merely not have been.
    pub(crate) fn lacks(&self, name: &str, why: &str) -> Error {
        let cut_off = if let Files::Hub(model) = &self.files { model.cut_off() } else { None };
        let problem = match cut_off {
            Some(why) => format!("not fetched: it is not in the local cache, and {why}"),
            None => format!("there is no such file, {why}"),
        };
        Error::file(self.place(name), problem)
    }

    /// `config.json`, read as `T`; what a GGUF file's header says, in the same words.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        if let Files::Gguf(gguf, _) = &self.files {
            return serde_json::from_value(gguf.config()?).map_err(|error| Error::file(gguf.path(), error));
        }
        let bytes = self.required("config.json", "but a model's folder needs one: it says what the weights mean")?;
        serde_json::from_slice(&bytes).map_err(|error| Error::file(self.place("config.json"), error))
    }

    /// The `model_type` of `config.json`, if it is one of these; `known` says in words what can be read.
    pub(crate) fn kind(&self, kinds: &[&str], known: &str) -> Result<String> {
        #[derive(serde::Deserialize)]
        struct Kind {
            #[serde(default)]
            model_type: String,
        }
        let Kind { model_type } = self.config()?;
        match kinds.contains(&model_type.as_str()) {
            true => Ok(model_type),
            false => Err(Error::Architecture {
                source_name: self.name.clone(),
                found: if model_type.is_empty() {
                    "unnamed (config.json has no model_type)".into()
                } else {
                    model_type
                },
                known: known.into(),
            }),
        }
    }

    /// The tokenizer, from `tokenizer.json`, or else from `vocab.txt`, or else from `qwen.tiktoken`.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let broken = |name: &str, error: Error| Error::file(self.place(name), format!("not a tokenizer: {error}"));
        if let Some(json) = self.file("tokenizer.json")? {
            return Tokenizer::from_json(&json).map_err(|error| broken("tokenizer.json", error));
        }
        if let Files::Gguf(gguf, _) = &self.files {
            return Tokenizer::from_json(gguf.tokenizer()?.to_string().as_bytes());
        }
        if let Some(vocab) = self.file("vocab.txt")? {
            return Tokenizer::from_vocab(&vocab, self.lowercases()?).map_err(|error| broken("vocab.txt", error));
        }
        if let Some(ranks) = self.file("qwen.tiktoken")? {
            return Tokenizer::from_tiktoken(&ranks).map_err(|error| broken("qwen.tiktoken", error));
        }
        let why = "and no vocab.txt either, nor qwen.tiktoken: without one of them text cannot be turned into tokens. Copy \
                   it from where the weights came from";
        Err(self.lacks("tokenizer.json", why))
    }

    /// Whether `tokenizer_config.json` asks for lower-casing; BERT's default is yes.
    fn lowercases(&self) -> Result<bool> {
        Ok(self.json(TOKENIZER_CONFIG)?["do_lower_case"].as_bool().unwrap_or(true))
    }

    /// A file of JSON, `null` if there is none.
    pub(crate) fn json(&self, name: &str) -> Result<Value> {
        let Some(bytes) = self.file(name)? else { return Ok(Value::Null) };
        serde_json::from_slice(&bytes).map_err(|error| Error::file(self.place(name), error))
    }

    /// `generation_config.json`, `null` if there is none.
    pub(crate) fn generation_config(&self) -> Result<Value> {
        self.json("generation_config.json")
    }

    /// The template of a tokenizer's configuration, or else of `chat_template.json`, where processors of a while ago kept it.
    fn template_of(&self, config: &Value) -> Result<Option<String>> {
        match named_template(&config["chat_template"]) {
            Some(template) => Ok(Some(template)),
            None => Ok(named_template(&self.json("chat_template.json")?["chat_template"])),
        }
    }

    /// How conversations are written: `chat_template.jinja`, or what `tokenizer_config.json` or a GGUF file's header says.
    pub(crate) fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        const FILE: &str = "chat_template.jinja";
        let config = match (self.json(TOKENIZER_CONFIG)?, &self.files) {
            (Value::Null, Files::Gguf(gguf, _)) => gguf.named_tokens()?,
            (config, _) => config,
        };
        let template = match (self.file(FILE)?, &self.files) {
            (Some(bytes), _) => {
                let text = String::from_utf8(bytes.into_owned());
                Some(text.map_err(|error| Error::file(self.place(FILE), error))?)
            }
            (None, Files::Gguf(gguf, _)) => gguf.chat_template(),
            (None, _) => match self.generation_config()?["chat_format"] == "chatml" {
                true => Some(CHATML.into()),
                false => self.template_of(&config)?,
            },
        };
        Ok(template.map(|template| ChatTemplate::new(template, &config)))
    }

    /// The weights, from `model.safetensors`, its shards, `pytorch_model.bin` or its shards, converted to the precision asked
    /// for.
    ///
    /// Errors: no weights, or a file that is truncated or of another format.
    pub(crate) fn weights(&self) -> Result<Weights> {
        self.weights_in(SINGLE)
    }

    /// The same where another file may hold them: that one if it is there.
    pub(crate) fn weights_in(&self, single: &str) -> Result<Weights> {
        let weights = match &self.files {
            Files::Gguf(gguf, _) => return self.packed(gguf),
            Files::Embedded(_) => self.embedded(),
            Files::Folder(_) | Files::Hub(_) => self.on_disk(single),
        };
        Ok(weights?.shuffled(self.load.shuffled))
    }

    /// Those of a GGUF file.
    fn packed(&self, gguf: &Gguf) -> Result<Weights> {
        match self.load.shuffled {
            Some(_) => Err(Error::argument("packed weights cannot be shuffled: load the model from safetensors")),
            None => Ok(Weights::packed(gguf.clone(), self.load.dtype, self.device.clone())),
        }
    }

    /// Those that came with the crate.
    fn embedded(&self) -> Result<Weights> {
        let bytes = self.required(SINGLE, "so the crate was packed wrongly")?;
        let header = SliceSafetensors::new(&bytes).map_err(|error| broken_weights(self.place(SINGLE), error))?;
        let shapes = header.tensors().into_iter().map(|(name, tensor)| (name, tensor.shape().to_vec())).collect();
        let builder = VarBuilder::from_buffered_safetensors(bytes.into_owned(), self.load.dtype, &self.device)?;
        Ok(Weights::new(builder, shapes, self.place(SINGLE)))
    }

    /// Files of their own: safetensors if there are any, PyTorch's if not.
    fn on_disk(&self, single: &str) -> Result<Weights> {
        if let Some(files) = self.whole_or_shards(&[single, SINGLE], INDEX)? {
            return self.safetensors(&files);
        }
        let why = "nor model.safetensors, nor pytorch_model.bin, nor that one's index. Weights in other formats can be \
                   converted with transformers: `model.save_pretrained(folder)`";
        let files = self.whole_or_shards(&[PYTORCH], PYTORCH_INDEX)?.ok_or_else(|| self.lacks(INDEX, why))?;
        let (pytorch, place) = (Pytorch::open(files)?, self.place(PYTORCH));
        Ok(Weights::pytorch(pytorch, place, self.load.dtype, self.device.clone()))
    }

    /// Those of one or several safetensors files.
    fn safetensors(&self, files: &[PathBuf]) -> Result<Weights> {
        let mut shapes = Shapes::new();
        for file in files {
            shapes.extend(shapes_in(file)?);
        }
        // SAFETY: the files are mapped read-only while tensors are copied out of them; like every reader of mapped
        // weights, this relies on nobody rewriting them meanwhile.
        let builder = unsafe { VarBuilder::from_mmaped_safetensors(files, self.load.dtype, &self.device) };
        let builder = builder.map_err(|error| broken_weights(self.place(SINGLE), error))?;
        Ok(Weights::new(builder, shapes, self.place(SINGLE)))
    }

    /// The first of these files that is there, or else those that an index lists; `None` if there is no index either.
    fn whole_or_shards(&self, names: &[&str], index: &str) -> Result<Option<Vec<PathBuf>>> {
        for name in names {
            if let Some(path) = self.path(name)? {
                return Ok(Some(vec![path]));
            }
        }
        self.file(index)?.map(|bytes| self.shards(index, &bytes)).transpose()
    }

    /// The files listed in an index.
    fn shards(&self, name: &str, bytes: &[u8]) -> Result<Vec<PathBuf>> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: std::collections::BTreeMap<String, String>,
        }
        let index: Index = serde_json::from_slice(bytes).map_err(|error| Error::file(self.place(name), error))?;
        let files: std::collections::BTreeSet<_> = index.weight_map.into_values().collect();
        let missing = |file: &str| self.lacks(file, &format!("but {name} lists this shard: download it again"));
        files.iter().map(|file| self.path(file)?.ok_or_else(|| missing(file))).collect()
    }
}

/// What says of a tokenizer how it is used.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Where weights are, unless they are in several files.
const SINGLE: &str = "model.safetensors";

/// What says in which of several files they are.
const INDEX: &str = "model.safetensors.index.json";

/// Where PyTorch's own format has them.
const PYTORCH: &str = "pytorch_model.bin";

/// The same for several files of that format.
const PYTORCH_INDEX: &str = "pytorch_model.bin.index.json";

/// The format that the first Qwen's chat models name in place of a template.
const CHATML: &str = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}\
{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";

/// A template, or the one called `default` of several.
fn named_template(config: &Value) -> Option<String> {
    let several = config.as_array().into_iter().flatten();
    let default = several.filter(|one| one["name"] == "default").find_map(|one| one["template"].as_str());
    config.as_str().or(default).map(str::to_owned)
}

/// A GGUF file on disk, or on the hub.
fn gguf(source: &str, load: &Load) -> Result<Files> {
    let shelf = std::env::var_os("PELLUCID_MODELS").map(|shelf| Path::new(&shelf).join(source));
    let path = match [Some(PathBuf::from(source)), shelf].into_iter().flatten().find(|path| path.is_file()) {
        Some(path) => path,
        None => from_hub(source, load)?,
    };
    let folder = path.parent().map_or(PathBuf::from("."), Path::to_owned);
    Ok(Files::Gguf(Gguf::open(&path)?, folder))
}

fn from_hub(source: &str, load: &Load) -> Result<PathBuf> {
    let parts: Vec<&str> = source.splitn(3, '/').collect();
    let missing = |why: &str| Error::NotFound(format!("there is no file `{source}`, here or {why}"));
    match parts[..] {
        [organisation, name, file] if !source.starts_with(['.', '/', '~']) => {
            let model = HubModel::new(&format!("{organisation}/{name}"), load.revision.as_deref())?;
            let place = || model.cut_off().map_or("on the hub".into(), |why| format!("in the local cache, and {why}"));
            model.file(file)?.ok_or_else(|| missing(&place()))
        }
        _ => Err(missing("on the hub")),
    }
}

/// A folder on disk by this path, or by this name under `$PELLUCID_MODELS`.
fn local_folder(source: &str) -> Option<PathBuf> {
    let shelf = std::env::var_os("PELLUCID_MODELS").map(|shelf| Path::new(&shelf).join(source));
    [Some(PathBuf::from(source)), shelf]
        .into_iter()
        .flatten()
        .find(|folder| folder.join("config.json").is_file())
        .or_else(|| Some(PathBuf::from(source)).filter(|folder| folder.is_dir()))
}

fn looks_like_a_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~']) || source.contains('\\') || source.matches('/').count() > 1 || source.is_empty()
}

/// The shapes of the tensors in a safetensors file, from its header alone.
fn shapes_in(path: &Path) -> Result<Shapes> {
    // SAFETY: as in `Checkpoint::safetensors`.
    let file = unsafe { MmapedSafetensors::new(path) };
    let file = file.map_err(|error| broken_weights(path.to_owned(), error))?;
    Ok(file.tensors().into_iter().map(|(name, tensor)| (name, tensor.shape().to_vec())).collect())
}

fn broken_weights(path: PathBuf, error: candle_core::Error) -> Error {
    Error::file(
        path,
        format!("not a whole safetensors file ({error}): it is truncated or of another format; fetch it again"),
    )
}
