//! What the crate does not have yet.

use super::job::Job;

/// A kind of case, which of its cases, and the topic that will bring them.
#[derive(Debug, PartialEq, Eq)]
pub struct Pending(pub &'static str, pub Which, pub &'static str);

/// Which cases of a kind.
#[derive(Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those whose method, variant or toy model is described with one of these words.
    By(&'static [&'static str]),
}

impl Pending {
    /// Whether a case is one of these.
    pub fn covers(&self, job: &Job) -> bool {
        self.0 == job.kind
            && match self.1 {
                Which::All => true,
                Which::By(words) => words.iter().any(|word| job.method.contains(word)),
            }
    }
}
