//! The names of a classifier's classes, and which of them it finds most probable.

use std::collections::BTreeMap;

use candle_core::{D, Tensor};
use serde::Deserialize;

use crate::tensor::numbers;
use crate::{Error, Result};

/// What `config.json` says of classes, in Hugging Face's words.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    id2label: BTreeMap<String, String>,
    #[serde(default)]
    problem_type: Option<String>,
}

impl Named {
    /// Names in the order of their numbers, as timm lists them.
    pub fn listed(names: Option<Vec<String>>) -> Self {
        let numbered = names.into_iter().flatten().enumerate().map(|(class, name)| (class.to_string(), name));
        Self { id2label: numbered.collect(), problem_type: None }
    }
}

/// What a model says that is asked for more than its checkpoint holds.
pub(crate) fn headless(model: &str, what: &str) -> Error {
    Error::argument(format!(
        "`{model}` has no weights for {what}, and pellucid does not make them up at random. Load a checkpoint that was \
         fine-tuned with one"
    ))
}

/// A classifier's classes.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    names: Vec<String>,
    says: Says,
}

/// What a classifier's numbers are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    /// Logits of classes that exclude each other.
    One,
    /// Logits of classes of which several may be true at once, or of a single one, which may be true or not.
    Several,
    /// No logits: the numbers that are asked for.
    Numbers,
}

impl Labels {
    /// So many classes, as config.json names them, or else `LABEL_0`, `LABEL_1`, …
    pub fn new(classes: usize, named: &Named) -> Self {
        let name = |class: usize| named.id2label.get(&class.to_string()).cloned().unwrap_or(format!("LABEL_{class}"));
        let says = match named.problem_type.as_deref() {
            Some("regression") => Says::Numbers,
            Some("multi_label_classification") => Says::Several,
            _ if classes == 1 => Says::Several,
            _ => Says::One,
        };
        Self { names: (0..classes).map(name).collect(), says }
    }

    /// Names that exclude each other.
    pub fn of(names: Vec<String>) -> Self {
        Self { names, says: Says::One }
    }

    /// The names, by number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of a class, by its name or one of its names: ImageNet has «tabby, tabby cat».
    ///
    /// Errors: no class has it, or several do: ImageNet has two cranes, a bird and a machine.
    pub fn number(&self, name: &str) -> Result<usize> {
        let whole = |label: &str| label == name;
        let any_case = |label: &str| label.eq_ignore_ascii_case(name);
        let one_of = |label: &str| label.split(", ").any(any_case);
        for is in [&whole as &dyn Fn(&str) -> bool, &any_case, &one_of] {
            let found: Vec<usize> = (0..self.names.len()).filter(|&class| is(&self.names[class])).collect();
            match found[..] {
                [class] => return Ok(class),
                [] => (),
                _ => {
                    return Err(Error::argument(format!(
                        "`{name}` is the name of several classes, {found:?}: use a number"
                    )));
                }
            }
        }
        Err(self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Error {
        const MANY: usize = 20;
        let known = self.names.iter().take(MANY).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if self.names.len() > MANY { format!(" and {} more", self.names.len() - MANY) } else { "".into() };
        Error::argument(format!("there is no class `{name}`; the classes are {known}{more}"))
    }

    /// Logits of one example → classes and probabilities, most probable first: by softmax, or each by itself where several
    /// may be true or there is but one; a regression's numbers as they are.
    pub fn ranked(&self, logits: &Tensor) -> Result<Vec<(String, f64)>> {
        let probabilities = match self.says {
            Says::One => candle_nn::ops::softmax(logits, D::Minus1)?,
            Says::Several => candle_nn::ops::sigmoid(logits)?,
            Says::Numbers => logits.clone(),
        };
        let mut classes: Vec<_> = self.names.iter().cloned().zip(numbers(&probabilities)?).collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(classes)
    }
}
