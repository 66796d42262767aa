//! What the crate does not have yet.

use super::job::Job;

/// A kind of case, those of them whose method, variant or toy model is described with one of these words, and the topic that
/// will bring them.
#[derive(Debug, PartialEq, Eq)]
pub struct Pending(pub &'static str, pub &'static [&'static str], pub &'static str);

impl Pending {
    /// Whether a case is one of these.
    pub fn covers(&self, job: &Job) -> bool {
        self.0 == job.kind && self.1.iter().any(|word| job.method.contains(word))
    }
}
