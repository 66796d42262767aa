//! What is explained: one number per example, made from a model's logits.

use std::fmt;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The number that an attribution explains, `(n,v) → (n,)`.
///
/// ```
/// # use pellucid::prelude::*;
/// let logits = Tensor::new(&[[0.0f64, 3f64.ln()]], &Device::Cpu)?;    // probabilities ¼ and ¾
/// let read = |target: Target| -> Result<f64> { Ok(target.of(&logits)?.to_vec1::<f64>()?[0]) };
/// assert!((read(Target::Probability(1))? - 0.75).abs() < 1e-12);
/// assert!((read(Target::LogProbability(0))? - 0.25f64.ln()).abs() < 1e-12);
/// assert_eq!(read(Target::Contrast(1, 0))?, read(Target::Logit(1))? - read(Target::Logit(0))?);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The logit of a class, as Captum's `target=`.
    Logit(usize),
    /// The natural logarithm of a class's probability, in nats.
    LogProbability(usize),
    /// A class's probability. It saturates: near 0 and 1 its gradient vanishes.
    Probability(usize),
    /// The first class's logit less the second's: why this *rather than* that (Yin & Neubig 2022, arXiv 2202.10419).
    Contrast(usize, usize),
    /// −Σ p·ln p over all classes, in nats: how undecided the model is.
    Entropy,
}

impl Target {
    /// `(n,v) → (n,)`.
    ///
    /// Errors: a class that does not exist; logits that are not `(n,v)`.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let logits = Tensor::new(&[[1.0f64, 3.0]], &Device::Cpu)?;
    /// assert_eq!(Target::Contrast(1, 0).of(&logits)?.to_vec1::<f64>()?, [2.0]);
    /// assert!(Target::Logit(2).of(&logits).is_err());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn of(&self, logits: &Tensor) -> Result<Tensor> {
        match *self {
            Self::Logit(class) => column(logits, class),
            Self::LogProbability(class) => column(&candle_nn::ops::log_softmax(logits, D::Minus1)?, class),
            Self::Probability(class) => column(&candle_nn::ops::softmax(logits, D::Minus1)?, class),
            Self::Contrast(class, other) => Ok((column(logits, class)? - column(logits, other)?)?),
            Self::Entropy => entropy(logits),
        }
    }

    /// The target in words, with the classes' names where they have one: «logit of `positive`».
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let labels = ["negative".to_string(), "positive".to_string()];
    /// assert_eq!(Target::Contrast(1, 0).describe(&labels), "logit of `positive` less that of `negative`");
    /// assert_eq!(Target::Logit(7).to_string(), "logit of class 7");
    /// ```
    pub fn describe(&self, labels: &[String]) -> String {
        let name = |class: usize| labels.get(class).map_or(format!("class {class}"), |label| format!("`{label}`"));
        match *self {
            Self::Logit(class) => format!("logit of {}", name(class)),
            Self::LogProbability(class) => format!("log-probability of {}", name(class)),
            Self::Probability(class) => format!("probability of {}", name(class)),
            Self::Contrast(class, other) => format!("logit of {} less that of {}", name(class), name(other)),
            Self::Entropy => "entropy".into(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(&[]))
    }
}

fn entropy(logits: &Tensor) -> Result<Tensor> {
    if logits.rank() != 2 {
        return Err(Error::shape("the logits", "(n, v)", logits.dims()));
    }
    let log = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    Ok((log.exp()? * log)?.sum(1)?.neg()?)
}

fn column(values: &Tensor, class: usize) -> Result<Tensor> {
    let &[_, classes] = values.dims() else {
        return Err(Error::shape("the logits", "(n, v)", values.dims()));
    };
    match class < classes {
        true => Ok(values.narrow(1, class, 1)?.squeeze(1)?),
        false => Err(Error::out_of_range("target class", class, classes)),
    }
}
