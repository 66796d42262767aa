//! What several tests need.

pub mod minilm;
