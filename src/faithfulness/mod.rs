//! Is an explanation any good? Measures that need more than the explanation itself: the right answer, or further passes.

mod datamodeling;
mod localisation;

pub use datamodeling::linear_datamodeling_score;
pub use localisation::{average_precision, pointing_game, relevance_mass, relevance_rank};
