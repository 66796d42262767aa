//! ContextCite: which sources of a context an answer rests on.
//!
//! Cohen-Wang, Shah, Georgiev & Mądry 2024, *ContextCite: Attributing Model Generation to Context*, arXiv 2409.00729.
//! Random subsets v of s sources are kept, the log-odds f(v) = ln(p/(1 − p)) of a span of the answer are read off for each, and
//! the sparse linear surrogate f̂(v) = b + w·v that is nearest to them says with w what each source is worth, in nats.
//!
//! [`ContextCite`] is made of [`Sources`], [`draw_masks`], [`token_log_odds`], [`span_logit`] and [`fit_context_surrogate`];
//! each gives the numbers of the authors' own package, context-cite 0.0.4, where that one is right.

mod cited;
mod fidelity;
mod hierarchy;
mod log_odds;
mod masks;
mod passes;
mod sources;
mod surrogate;
mod uses;

pub use cited::{ContextCite, context_prompt};
pub use fidelity::{Intervals, bootstrap_surrogate};
pub use hierarchy::{Hierarchy, hierarchical_context_cite};
pub use log_odds::{span_logit, token_log_odds};
pub use masks::{Masks, draw_masks};
pub use passes::Passes;
pub use sources::Sources;
pub use surrogate::{Surrogate, fit_context_surrogate};
pub use uses::{Planted, Support, find_planted, log_prob_drop, verify};
