//! Is an explanation any good? Measures that need more than the explanation itself: here, the right answer.

mod localisation;

pub use localisation::{average_precision, pointing_game, relevance_mass, relevance_rank};
