//! What all races have in common: models of any size, and processes that work with them when they are told to.

pub mod device;
pub mod plan;
pub mod racer;
pub mod shape;
pub mod watch;

/// What can go wrong, in words.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;
