//! What several tests need.

pub mod minilm;
pub mod seer;
