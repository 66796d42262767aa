//! A case as the file has it.

use candle_core::DType;
use serde_json::{Map, Value as Json};

use crate::reference_runner::Fallible;
use crate::reference_runner::check::Check;
use crate::reference_runner::value::Value;

/// A case; fields that are null count as absent.
pub struct Record<'a>(&'a Map<String, Json>);

impl<'a> Record<'a> {
    pub fn new(case: &'a Json) -> Fallible<Self> {
        Ok(Self(case.as_object().ok_or("a case is an object")?))
    }

    /// A field, if it is there.
    pub fn get(&self, field: &str) -> Option<&'a Json> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub fn need(&self, field: &str) -> Fallible<&'a Json> {
        self.get(field).ok_or_else(|| format!("no `{field}`").into())
    }

    /// A field that is a word.
    pub fn word(&self, field: &str) -> Fallible<&'a str> {
        self.need(field)?.as_str().ok_or_else(|| format!("`{field}` is no word").into())
    }

    /// A field that counts something.
    pub fn count(&self, field: &str) -> Fallible<usize> {
        Ok(self.need(field)?.as_u64().ok_or_else(|| format!("`{field}` is no count"))? as usize)
    }

    /// A field that is a list.
    pub fn list(&self, field: &str) -> Fallible<&'a [Json]> {
        self.need(field)?.as_array().map(Vec::as_slice).ok_or_else(|| format!("`{field}` is no list").into())
    }

    /// The fields it has.
    pub fn fields(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(|(_, value)| !value.is_null()).map(|(field, _)| field.as_str())
    }

    /// Our values against a list of the file's, within the case's tolerance.
    pub fn against(&self, field: &str, got: &[Value], dtype: DType) -> Fallible<Vec<Check>> {
        let tol = self.need("tolerance")?.as_f64().ok_or("the tolerance is no number")?;
        let expected = self.list(field)?;
        if expected.len() != got.len() {
            return Err(format!("`{field}` has {} parts, we have {}", expected.len(), got.len()).into());
        }
        let check = |(expected, got)| Ok(Check::new(field, dtype, got, &Value::nested(expected)?, tol));
        expected.iter().zip(got).map(check).collect()
    }

    /// The same with a list, or a bare number, that stands for one part.
    pub fn against_one(&self, field: &str, got: &Value, dtype: DType) -> Fallible<Vec<Check>> {
        let tol = self.need("tolerance")?.as_f64().ok_or("the tolerance is no number")?;
        let expected = match Value::nested(self.need(field)?)? {
            Value::Numbers(shape, numbers) if shape.is_empty() => Value::Numbers(vec![1], numbers),
            list => list,
        };
        Ok(vec![Check::new(field, dtype, got, &expected, tol)])
    }
}
