//! One case of any file, ready to run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Fallible;
use super::check::Check;

/// A case: what it is called, and what to do.
pub struct Job {
    pub kind: String,
    pub name: String,
    /// The method or variant in the file's words, if it names one.
    pub method: String,
    /// Runs it.
    pub work: Box<dyn Fn() -> Fallible<Vec<Check>>>,
}

impl Job {
    /// A case that names no method.
    pub fn new(kind: &str, name: &str, work: impl Fn() -> Fallible<Vec<Check>> + 'static) -> Self {
        Self { kind: kind.into(), name: name.into(), method: String::new(), work: Box::new(work) }
    }

    /// A case that cannot even be read.
    pub fn broken(kind: &str, name: &str, why: String) -> Self {
        Self::new(kind, name, move || Err(why.clone().into()))
    }

    /// The checks of the case; a panic counts as a failure of this case, and ends no other.
    pub fn run(&self) -> Fallible<Vec<Check>> {
        catch_unwind(AssertUnwindSafe(&self.work)).unwrap_or_else(|_| Err("panicked; see above".into()))
    }
}
