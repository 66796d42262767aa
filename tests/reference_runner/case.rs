//! A case of `cases.json`, and what a kind of case asks of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::DType;
use pellucid::Target;
use pellucid::model::text::{Text, Tokenizer};
use pellucid::model::{Bert, CausalLm, Clip, Image, Mixer, Vit, Vlm};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json};

use super::Fallible;
use super::suite::{Loader, Suite};
use super::value::{Value, is_exact};

/// A case as the file has it. Fields with an underscore are notes for people.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(rename = "name")]
    _name: IgnoredAny,
    pub kind: String,
    pub model: Option<String>,
    pub inputs: Map<String, Json>,
    pub params: Map<String, Json>,
    pub expected: Map<String, Json>,
    tol: BTreeMap<String, Tolerance>,
    #[serde(default, rename = "checks")]
    _checks: IgnoredAny,
    #[serde(default, rename = "peers")]
    _peers: IgnoredAny,
    #[serde(default, rename = "note")]
    _note: IgnoredAny,
}

/// How far a field may be off.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tolerance {
    atol: f64,
    scale: f64,
    #[serde(rename = "f32_dev")]
    _f32_dev: IgnoredAny,
    #[serde(rename = "f32_rel")]
    _f32_rel: IgnoredAny,
}

impl Case {
    /// How far a field may be off in this precision: as the file says, and in `f64` what rounding of the files leaves; but
    /// what a package computed in single precision comes no nearer.
    pub fn tolerance(&self, field: &str, dtype: DType) -> Fallible<f64> {
        match self.tol.get(field) {
            Some(tol) if dtype == DType::F64 && !field.contains("package_") => {
                Ok(tol.atol.min(2e-7 * tol.scale + 1e-9))
            }
            Some(tol) => Ok(tol.atol),
            None if is_exact(&self.expected[field]) => Ok(0.0),
            None => Err(format!("`{field}` comes without a tolerance").into()),
        }
    }
}

/// A case in one precision.
pub struct Run<'a> {
    pub case: &'a Case,
    pub suite: &'a Suite,
    pub dtype: DType,
}

impl Run<'_> {
    /// An input.
    pub fn input(&self, name: &str) -> Fallible<Value> {
        Value::decode(self.case.inputs.get(name).ok_or_else(|| format!("no input `{name}`"))?)
    }

    /// An input, if the case has it.
    pub fn optional(&self, name: &str) -> Fallible<Option<Value>> {
        self.case.inputs.get(name).map(Value::decode).transpose()
    }

    /// A parameter that is a word.
    pub fn word(&self, name: &str) -> Fallible<&str> {
        self.case.params.get(name).and_then(Json::as_str).ok_or_else(|| format!("no word `{name}` in params").into())
    }

    /// That a parameter says this.
    pub fn says(&self, name: &str, sentence: &str) -> Fallible<()> {
        match self.word(name)? {
            said if said == sentence => Ok(()),
            other => Err(format!("`{name}` says «{other}», which is another case").into()),
        }
    }

    /// A parameter that is a number.
    pub fn number(&self, name: &str) -> Fallible<f64> {
        self.case.params.get(name).and_then(Json::as_f64).ok_or_else(|| format!("no number `{name}` in params").into())
    }

    /// A parameter that counts something.
    pub fn count(&self, name: &str) -> Fallible<usize> {
        let count = self.case.params.get(name).and_then(Json::as_u64);
        Ok(count.ok_or_else(|| format!("no count `{name}` in params"))? as usize)
    }

    /// A parameter that lists token ids.
    pub fn ids(&self, name: &str) -> Fallible<Vec<u32>> {
        Value::nested(self.case.params.get(name).ok_or_else(|| format!("no ids `{name}` in params"))?)?.ids()
    }

    /// The case's model, a BERT.
    pub fn bert(&self) -> Fallible<Bert> {
        self.model(Bert::load_with)
    }

    /// The case's model, a causal language model.
    pub fn llm(&self) -> Fallible<CausalLm> {
        self.model(CausalLm::load_with)
    }

    /// The case's model, a vision transformer.
    pub fn vit(&self) -> Fallible<Vit> {
        self.model(Vit::load_with)
    }

    /// The case's model, an MLP-Mixer.
    pub fn mixer(&self) -> Fallible<Mixer> {
        self.model(Mixer::load_with)
    }

    /// The case's model, a CLIP.
    pub fn clip(&self) -> Fallible<Clip> {
        self.model(Clip::load_with)
    }

    /// The case's model, which sees and speaks.
    pub fn vlm(&self) -> Fallible<Vlm> {
        self.model(Vlm::load_with)
    }

    /// The case's model's tokenizer.
    pub fn tokenizer(&self) -> Fallible<Tokenizer> {
        match self.architecture()?.as_str() {
            "CLIPModel" => Ok(self.clip()?.tokenizer().clone()),
            causal if causal.ends_with("ForCausalLM") => Ok(self.llm()?.tokenizer().clone()),
            _ => Ok(self.bert()?.tokenizer().clone()),
        }
    }

    /// The architecture of the case's model.
    pub fn architecture(&self) -> Fallible<String> {
        Ok(self.suite.architecture(self.name()?))
    }

    /// The case's picture, whose bytes must be those it lists.
    pub fn picture(&self) -> Fallible<Image> {
        let picture = Image::open(self.suite.file(&self.input("image")?.words()?[0]))?;
        let bytes = (picture.pixels()?.permute((1, 2, 0))? * 255.0)?.round()?;
        self.same("image_u8_hwc", &Value::of(&bytes)?)?;
        Ok(picture)
    }

    fn model<M: Any + Clone>(&self, load: Loader<M>) -> Fallible<M> {
        self.suite.model(self.name()?, self.dtype, load)
    }

    /// Where the files of the case's model are.
    pub fn folder(&self) -> Fallible<PathBuf> {
        Ok(self.suite.path(self.name()?)?.into())
    }

    fn name(&self) -> Fallible<&str> {
        Ok(self.case.model.as_deref().ok_or("the case names no model")?)
    }

    /// The logit that the case explains: that of an id, spelled as the case has it.
    pub fn target(&self, llm: &CausalLm) -> Fallible<Target> {
        let target = self.count("target")?;
        match self.word("target_token") {
            Ok(token) if llm.tokenizer().id(token)? as usize != target => {
                Err(format!("{target} is not `{token}`").into())
            }
            _ => Ok(Target::Logit(target)),
        }
    }

    /// The case's text as a causal language model reads it: exactly the ids and tokens it lists.
    pub fn prompt(&self, llm: &CausalLm) -> Fallible<Text> {
        let text = llm.read(&self.input("text")?.words()?[0])?;
        self.same("input_ids", &text.ids().as_slice().into())?;
        self.same_spelling("tokens", &text.ids(), llm)?;
        Ok(text)
    }

    /// That tokens, if the case lists them as the vocabulary spells them, are these.
    pub fn same_spelling(&self, name: &str, ids: &[u32], llm: &CausalLm) -> Fallible<()> {
        let Some(tokens) = self.optional(name)? else { return Ok(()) };
        let theirs: Vec<u32> =
            tokens.words()?.iter().map(|token| llm.tokenizer().id(token)).collect::<Result<_, _>>()?;
        if theirs == ids { Ok(()) } else { Err(format!("{name}: {ids:?}, and the case has {theirs:?}").into()) }
    }

    /// The case's text as the model reads it, padded if the case is: exactly the ids, types, mask and tokens it lists.
    pub fn text(&self, bert: &Bert) -> Fallible<Text> {
        let text = match self.optional("text_pair")? {
            Some(pair) => match pair.words()? {
                [first, second] => bert.read_pair(first, second)?,
                _ => return Err("a pair of texts is two texts".into()),
            },
            None => bert.read(&self.input("text")?.words()?[0])?,
        };
        let text = match (self.optional("attention_mask")?, self.case.params.get("attention_mask")) {
            (Some(_), Some(Json::Null)) => return Err("padding without a mask is not known".into()),
            (Some(mask), _) => bert.pad(text, mask.ids()?.len())?,
            (None, _) => text,
        };
        self.same_tokens(&text)?;
        Ok(text)
    }

    fn same_tokens(&self, text: &Text) -> Fallible<()> {
        let ours =
            [("input_ids", text.ids()), ("token_type_ids", text.type_ids().to_vec()), ("attention_mask", flags(text))];
        for (name, ours) in &ours {
            self.same(name, &ours.as_slice().into())?;
        }
        let tokens = text.tokens().iter().map(|token| token.text.clone()).collect();
        self.same("tokens", &Value::Words(tokens))
    }

    /// That an input, if the case has it, is what we make of its text.
    pub fn same(&self, name: &str, ours: &Value) -> Fallible<()> {
        match self.optional(name)? {
            Some(theirs) if theirs != *ours => Err(format!("{name}: {ours:?}, and the case has {theirs:?}").into()),
            _ => Ok(()),
        }
    }
}

fn flags(text: &Text) -> Vec<u32> {
    match text.mask() {
        Some(mask) => mask.iter().map(|&seen| u32::from(seen)).collect(),
        None => vec![1; text.len()],
    }
}
