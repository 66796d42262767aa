//! Verdicts for the course's exercise cells: an answer is tested by what must be true of it, never by its wording.
//!
//! A wrong answer is no error. It gets a verdict that says what differs; an answer that fails gets its own error back.
//!
//! ```
//! # use pellucid::prelude::*;
//! let mine = |maps: &[Tensor]| Ok(maps.iter().skip(1).try_fold(maps[0].mean(1)?, |rolled, map| map.mean(1)?.matmul(&rolled))?);
//! let verdict = check::rollout(mine, HeadFusion::Mean);    // no layer keeps its residual
//! assert!(!verdict.passed && verdict.message.contains("½(A + I)"));
//! assert!(check::rollout(|maps| rollout(maps, &Rollout::default()), HeadFusion::Mean).passed);
//! # Ok::<(), pellucid::Error>(())
//! ```

mod attention_rollout;
mod bert_sentiment;
mod context_cite;
mod inside_llama;
mod integrated_gradients;
mod libragrad_clip;
mod libragrad_llama;
mod llm_attribution;
mod pixels_and_prompts;
mod what_the_model_saw;
mod which_explanation;

use maud::html;

pub use attention_rollout::{class_row, rollout, rollout_looks_elsewhere};
pub use bert_sentiment::{leave_one_out, turning_word, words};
pub use context_cite::{borrowed, gone_together, span_log_odds};
pub use inside_llama::{head_that_looks, parting_prompt, words_zeroed};
pub use integrated_gradients::{corner_path, middle_rule, one_sided_baseline};
pub use libragrad_clip::{beside_the_picture, libra_looks_elsewhere, second_half};
pub use libragrad_llama::{frozen_layer_norm, other_balance, soft_cap};
pub use llm_attribution::{plays_chess, rather_than, removed};
pub use pixels_and_prompts::{false_friend, last_object, relevance_mass};
pub use what_the_model_saw::{cell_drops, language_prior, picture_share};
pub use which_explanation::{area_between, blind_map, paired_difference};

use crate::show::{Show, notice};
use crate::zoo::{Colour, Scene, Shape};
use crate::{Error, Result};

/// Whether an exercise is solved, and what to look at if it is not.
///
/// ```
/// # use pellucid::prelude::*;
/// let verdict = check::head_that_looks(|_, _, _| Ok((7, 0)));
/// assert!(!verdict.passed && verdict.message == "There is no head 0 in layer 7.");
/// println!("{}", verdict.text());
/// # assert!(verdict.text().contains("7"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is solved.
    pub passed: bool,
    /// What was found, in words.
    pub message: String,
}

impl Verdict {
    fn new(outcome: Outcome) -> Self {
        match outcome {
            Ok(message) => Self { passed: true, message },
            Err(Gap(message)) => Self { passed: false, message },
        }
    }

    fn mark(&self) -> &'static str {
        if self.passed { "✓ Solved" } else { "○ Not solved yet" }
    }
}

impl Show for Verdict {
    fn text(&self) -> String {
        format!("{}. {}", self.mark(), self.message)
    }

    fn html(&self) -> String {
        let (ground, edge) = if self.passed { ("#e6f4ea", "#1e7d4f") } else { ("#f3f3f3", "#8a8a8a") };
        notice(ground, edge, html! { b { (self.mark()) } br; (self.message) }).into_string()
    }
}

/// What an exercise comes to: praise, or what keeps it from being solved.
type Outcome<T = String> = Result<T, Gap>;

/// What keeps an exercise from being solved, in words.
struct Gap(String);

impl From<Error> for Gap {
    fn from(error: Error) -> Self {
        Self(format!("Your answer ended in an error: {error}."))
    }
}

impl From<candle_core::Error> for Gap {
    fn from(error: candle_core::Error) -> Self {
        Error::from(error).into()
    }
}

/// The exercise goes on if this holds, and ends with the message otherwise.
fn require(holds: bool, message: impl FnOnce() -> String) -> Outcome<()> {
    if holds { Ok(()) } else { Err(Gap(message())) }
}

fn near(got: f64, wanted: f64, tolerance: f64) -> bool {
    (got - wanted).abs() <= tolerance * (1.0 + wanted.abs())
}

/// The two lists are the same, or the first number that differs is the message.
fn same(what: &str, got: &[f64], wanted: &[f64], tolerance: f64) -> Outcome<()> {
    require(got.len() == wanted.len(), || format!("{what}: I expected {} numbers, got {}.", wanted.len(), got.len()))?;
    match got.iter().zip(wanted).position(|(&got, &wanted)| !near(got, wanted, tolerance)) {
        None => Ok(()),
        Some(i) => {
            let (got, wanted) = told_apart(got[i], wanted[i]);
            Err(Gap(format!("{what}: number {i} is {got}, I expected {wanted}.")))
        }
    }
}

/// Two numbers that differ, with as many digits as show it.
fn told_apart(got: f64, wanted: f64) -> (String, String) {
    let written = |digits: usize| (format!("{got:.digits$}"), format!("{wanted:.digits$}"));
    (4..9).map(written).find(|(got, wanted)| got != wanted).unwrap_or_else(|| written(9))
}

/// The lists differ by more than all their signs, or this is the message.
fn not_negated(got: &[f64], wanted: &[f64], tolerance: f64, message: &str) -> Outcome<()> {
    let negated: Vec<f64> = got.iter().map(|x| -x).collect();
    require(same("", &negated, wanted, tolerance).is_err(), || message.into())
}

/// The two lists of drops are the same, or what is wrong with them is the message: their signs, or the first number that differs.
fn same_drops(what: &str, got: &[f64], wanted: &[f64], tolerance: f64) -> Outcome<()> {
    const SIGNS: &str = "The sizes are right, the signs are not: a drop is f(x) less f without what is taken away.";
    not_negated(got, wanted, tolerance, SIGNS)?;
    same(what, got, wanted, tolerance)
}

/// The two lists of names are the same, but for capitals, or the first name that differs is the message.
fn same_names(got: &[String], wanted: &[String]) -> Outcome<()> {
    let at = |names: &[String], i: usize| names.get(i).map_or("nothing".into(), |name| format!("«{name}»"));
    let name = |names: &[String], i: usize| names.get(i).map(|name| name.to_lowercase());
    match (0..got.len().max(wanted.len())).find(|&i| name(got, i) != name(wanted, i)) {
        None => Ok(()),
        Some(i) => Err(Gap(format!("At place {i} I expected {}, got {}.", at(wanted, i), at(got, i)))),
    }
}

/// The scene of the chapters about pictures: a red object of this shape, and a blue star.
fn chapters_scene(shape: Shape) -> Result<Scene> {
    let scene = Scene::empty(11).with(shape, Colour::Red, 17.0, 18.0, 11.0)?;
    scene.with(Shape::Star, Colour::Blue, 46.0, 44.0, 12.0)
}
