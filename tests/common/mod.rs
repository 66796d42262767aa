//! What several tests need, though not each of them everything.

#![allow(dead_code)]

pub mod minilm;
