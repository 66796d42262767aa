//! The numbers of others, met by this crate: Captum, transformers and more, computed in `f64` on tiny models of the real
//! file formats, and on MiniLM.
//!
//! The cases are in `tests/reference`. Another folder of the same format, with other models, sizes, seeds, texts and
//! parameters, is run by `PELLUCID_REFERENCE=FOLDER cargo test --test reference -- --nocapture`. A case is
//! `reference KIND NAME err=E tol=T ok|FAIL`, E and T being those of its worst field in its worst precision. What this
//! runner does not know, a kind or a field, is a failure; what the crate does not have yet is in `PENDING`, and counted.

#[path = "common/apart.rs"]
mod apart;
#[path = "common/minilm.rs"]
mod minilm;
mod reference_runner;
#[path = "common/seer.rs"]
mod seer;

use std::path::PathBuf;

use reference_runner::pending::Pending;

#[test]
fn meets_the_numbers_of_others() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference");
    let folder = std::env::var_os("PELLUCID_REFERENCE").map_or(own.into(), PathBuf::from);
    let report = reference_runner::run(&folder, PENDING);
    assert!(report.total() > 0, "{} holds no cases", folder.display());
    assert_eq!(report.failed, 0, "{} cases failed; see the lines with FAIL above", report.failed);
}

const RULES: &str = "DeepLift, LRP, Grad-CAM, conductance, internal influence";
const METRICS: &str = "metrics: infidelity and sensitivity";
const NEVER: &str = "a slip of the original code, which is not to be copied";

/// Kinds of cases whose methods or models the crate does not have yet.
#[rustfmt::skip]
const PENDING: &[Pending] = &[
    Pending("cc_rollout", &["contextcite end_to_end_published"], "TinyLlama 1.1B, in half precision"),
    Pending("rollout_matrices", &["vit-explain literal"], NEVER),
    Pending("captum_toy", &["DeepLift", "LRP ", "LayerGradCam", "LayerConductance", "InternalInfluence"], RULES),
    Pending("captum_toy", &["infidelity", "sensitivity_max"], METRICS),
    Pending("captum_toy", &["missing-keepdim"], NEVER),
    Pending("captum_toy", &["_get_color", "_normalize_attr"], "Captum's own displays, which are not ours"),
];
