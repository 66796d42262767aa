//! Cells of notebooks.

use serde_json::Value;

/// The source of a cell, which Jupyter writes in lines or as a whole.
pub fn text(cell: &Value) -> String {
    match &cell["source"] {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        source => source.as_str().unwrap_or_default().to_owned(),
    }
}
