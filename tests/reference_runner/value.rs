//! Values of the files, and ours to hold against them: numbers of a shape, or words.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use candle_core::{DType, Tensor};
use pellucid::device;
use serde_json::Value as Json;

use super::Fallible;

/// Numbers of a shape (a single one has none), or words.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Numbers(Vec<usize>, Vec<f64>),
    Words(Vec<String>),
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Numbers(vec![], vec![number])
    }
}

impl From<&[f64]> for Value {
    fn from(numbers: &[f64]) -> Self {
        Self::Numbers(vec![numbers.len()], numbers.to_vec())
    }
}

impl From<&[u32]> for Value {
    fn from(ids: &[u32]) -> Self {
        Self::Numbers(vec![ids.len()], ids.iter().map(|&id| f64::from(id)).collect())
    }
}

impl Value {
    /// A tensor's numbers.
    pub fn of(tensor: &Tensor) -> Fallible<Self> {
        let numbers = tensor.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        Ok(Self::Numbers(tensor.dims().to_vec(), numbers))
    }

    /// A number, a word, a list of words, or an array with its shape.
    pub fn decode(json: &Json) -> Fallible<Self> {
        match json {
            Json::Number(number) => Ok(number.as_f64().ok_or("a number beyond f64")?.into()),
            Json::String(word) => Ok(Self::Words(vec![word.clone()])),
            Json::Array(words) => words.iter().map(word).collect::<Option<_>>().map(Self::Words).ok_or(unknown(json)),
            Json::Object(array) => decode_array(array),
            _ => Err(unknown(json)),
        }
    }

    /// A nested list of numbers.
    pub fn nested(json: &Json) -> Fallible<Self> {
        let Json::Array(rows) = json else {
            return Self::decode(json);
        };
        let (mut shape, mut numbers) = (None, vec![]);
        for row in rows {
            let Self::Numbers(inner, row) = Self::nested(row)? else { return Err(unknown(json)) };
            (shape.get_or_insert(inner.clone()) == &inner).then_some(()).ok_or("a ragged list")?;
            numbers.extend(row);
        }
        Ok(Self::Numbers([vec![rows.len()], shape.unwrap_or_default()].concat(), numbers))
    }

    /// The numbers, row by row.
    pub fn numbers(&self) -> Fallible<&[f64]> {
        match self {
            Self::Numbers(_, numbers) => Ok(numbers),
            Self::Words(_) => Err("words where numbers are expected".into()),
        }
    }

    /// The words.
    pub fn words(&self) -> Fallible<&[String]> {
        match self {
            Self::Words(words) => Ok(words),
            Self::Numbers(..) => Err("numbers where words are expected".into()),
        }
    }

    /// The numbers as token ids, flags or counts.
    pub fn ids(&self) -> Fallible<Vec<u32>> {
        let whole = |x: &f64| (*x >= 0.0 && x.fract() == 0.0).then_some(*x as u32);
        self.numbers()?.iter().map(whole).collect::<Option<_>>().ok_or_else(|| "these are not whole numbers".into())
    }

    /// The numbers as a tensor.
    pub fn tensor(&self, dtype: DType) -> Fallible<Tensor> {
        match self {
            Self::Numbers(shape, numbers) => {
                Ok(Tensor::from_slice(numbers, shape.as_slice(), &device()?)?.to_dtype(dtype)?)
            }
            Self::Words(_) => Err("words where a tensor is expected".into()),
        }
    }

    /// The largest |difference| of two elements: infinite where shapes or words differ, or something is not a number.
    pub fn distance(&self, other: &Self) -> f64 {
        let finite = |d: f64| if d.is_nan() { f64::INFINITY } else { d };
        match (self, other) {
            (Self::Numbers(shape, a), Self::Numbers(other, b)) if shape == other => {
                a.iter().zip(b).map(|(a, b)| finite((a - b).abs())).fold(0.0, f64::max)
            }
            (Self::Words(a), Self::Words(b)) if a == b => 0.0,
            _ => f64::INFINITY,
        }
    }
}

fn word(json: &Json) -> Option<String> {
    json.as_str().map(str::to_owned)
}

fn unknown(json: &Json) -> Box<dyn std::error::Error> {
    let start: String = json.to_string().chars().take(60).collect();
    format!("a value of no known encoding: {start}").into()
}

/// `{"shape": […], ENCODING: DATA}`, row-major.
fn decode_array(array: &serde_json::Map<String, Json>) -> Fallible<Value> {
    let shape: Vec<usize> = serde_json::from_value(array.get("shape").ok_or("an array without a shape")?.clone())?;
    let mut data = array.iter().filter(|(key, _)| *key != "shape");
    let (Some((encoding, data)), None) = (data.next(), data.next()) else {
        return Err("an array has a shape and one encoding".into());
    };
    let numbers: Vec<f64> = match encoding.as_str() {
        "f64" | "i64" => serde_json::from_value(data.clone())?,
        "b64f32" => floats(&STANDARD.decode(data.as_str().ok_or("base64 is a string")?)?),
        "b64u8" => bytes(&STANDARD.decode(data.as_str().ok_or("base64 is a string")?)?),
        other => return Err(format!("the encoding `{other}` is not known").into()),
    };
    let fits = shape.iter().product::<usize>() == numbers.len();
    if fits { Ok(Value::Numbers(shape, numbers)) } else { Err("an array that does not fill its shape".into()) }
}

/// Little-endian `f32`.
fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
}

fn bytes(bytes: &[u8]) -> Vec<f64> {
    bytes.iter().map(|&b| f64::from(b)).collect()
}

/// Whether the JSON is made of integers or words, which must be met exactly.
pub fn is_exact(json: &Json) -> bool {
    match json {
        Json::Number(number) => !number.is_f64(),
        Json::Object(array) => array.contains_key("i64") || array.contains_key("b64u8"),
        _ => true,
    }
}
