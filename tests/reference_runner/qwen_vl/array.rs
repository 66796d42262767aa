//! Arrays as these files write them.

use serde::Deserialize;
use serde_json::json;

use super::super::Fallible;
use super::super::value::Value;

/// Little-endian numbers, row by row.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Array {
    shape: Vec<usize>,
    dtype: String,
    b64: String,
}

impl Array {
    /// Its numbers.
    pub fn value(&self) -> Fallible<Value> {
        let encoding = format!("b64{}", self.dtype);
        Value::decode(&json!({ "shape": self.shape, encoding: self.b64 }))
    }
}
