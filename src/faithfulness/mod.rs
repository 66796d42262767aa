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

mod completeness;
mod datamodeling;
mod deletion;
mod infidelity;
mod leaderboard;
mod localisation;
mod perturbations;
mod randomisation;
mod rationale;

pub use crate::bootstrap::{Bootstrap, Estimate, bootstrap_mean};
pub use completeness::completeness_error;
pub use datamodeling::linear_datamodeling_score;
pub use deletion::{Deletion, Measure, Said, TENTHS, deletion, random_scores};
pub use infidelity::{infidelity, infidelity_rescaled, max_sensitivity};
pub use leaderboard::{Leaderboard, Row};
pub use localisation::{average_precision, pointing_game, relevance_mass, relevance_rank};
pub use perturbations::{ball_perturbations, noise_perturbations, square_perturbations};
pub use randomisation::{Randomisation, cascading_randomisation};
pub use rationale::{RATIONALES, comprehensiveness, sufficiency};
