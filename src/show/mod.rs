//! Results as figures.
/// Shown.
pub trait Show {}
