//! Captum's templates: text with fields `{}`, and what they hold.

use pellucid::prelude::*;
use serde_json::Value as Json;

use crate::reference_runner::Fallible;
use crate::reference_runner::value::Value;

/// A template, and a value for each of its fields; without it a field is empty.
pub struct Template {
    template: String,
    values: Vec<String>,
}

impl Template {
    /// From the file's words.
    pub fn new(template: &Json, values: &Json) -> Fallible<Self> {
        let template = template.as_str().ok_or("a template is a word")?.to_owned();
        Ok(Self { template, values: Value::decode(values)?.words()?.to_vec() })
    }

    /// As the crate has it, with named fields.
    pub fn parts(&self) -> Fallible<Parts> {
        let name = |k: usize| format!("{{{k}}}");
        let named = (0..self.values.len()).fold(self.template.clone(), |text, k| text.replacen("{}", &name(k), 1));
        let fields = self.values.iter().enumerate().map(|(k, value)| Field::new(&k.to_string(), value));
        Ok(Parts::template(&named, fields.collect())?)
    }

    /// The text where only the fields with a one hold their values.
    pub fn text(&self, present: &[f64]) -> String {
        let held = |(value, &there): (&String, &f64)| if there == 0.0 { String::new() } else { value.clone() };
        self.values
            .iter()
            .zip(present)
            .map(held)
            .fold(self.template.clone(), |text, value| text.replacen("{}", &value, 1))
    }
}
