//! Is an explanation any good? Measures that need more than the explanation itself: the right answer, or further passes.
//!
//! | question | measure |
//! |---|---|
//! | does what it points at matter? | [`deletion()`] and its [`srg`](Deletion::srg), [`aopc`](Deletion::aopc), [`mif_accuracy`](Deletion::mif_accuracy) · [`comprehensiveness`], [`sufficiency`] |
//! | do its numbers foretell what changes? | [`completeness_error`], [`infidelity`], [`linear_datamodeling_score`] |
//! | does it hold still? | [`max_sensitivity`] |
//! | does it explain the model, or the input? | [`cascading_randomisation`] |
//! | does it find what is known to decide? | [`pointing_game`], [`average_precision`], [`relevance_mass`], [`relevance_rank`] |
//!
//! A [`Leaderboard`] holds what several methods have by several of these over a set of examples, with intervals.
//!
//! ```
//! # use pellucid::prelude::*;
//! use pellucid::faithfulness::{Measure, TENTHS, deletion, random_scores};
//! let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
//! let text = bert.read("I absolutely loved the movie, and the music was superb.")?;
//! let positive = bert.label("positive")?;
//! let blank = bert.baseline(&text, &Baseline::token("[MASK]"))?;
//! let f = |x: &Tensor| Target::Logit(positive).of(&bert.logits(&text, x)?);
//! let why = integrated_gradients(f, &bert.embed(&text)?, &blank, &Steps::default())?.over(&text)?;
//! let srg = |why: &Attribution| -> Result<f64> {
//!     Ok(deletion(|present| bert.logits_with(&text, present), why, positive, &TENTHS)?.srg(Measure::Logit))
//! };
//! assert!(srg(&why)? > srg(&random_scores(&why, 0))?);    // better than chance
//! # Ok::<(), pellucid::Error>(())
//! ```

mod completeness;
mod datamodeling;
mod deletion;
mod infidelity;
mod leaderboard;
mod localisation;
mod perturbations;
mod randomisation;
mod rationale;

pub use crate::bootstrap::{Estimate, bootstrap_mean};
pub use completeness::completeness_error;
pub use datamodeling::linear_datamodeling_score;
pub use deletion::{Deletion, Measure, Said, TENTHS, deletion, random_scores};
pub use infidelity::{infidelity, infidelity_rescaled, max_sensitivity};
pub use leaderboard::{Leaderboard, Row};
pub use localisation::{average_precision, pointing_game, relevance_mass, relevance_rank};
pub use perturbations::{ball_perturbations, noise_perturbations, square_perturbations};
pub use randomisation::{Randomisation, cascading_randomisation};
pub use rationale::{RATIONALES, comprehensiveness, sufficiency};
