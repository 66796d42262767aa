//! Where both sides work: on the device that `PELLUCID_DEVICE` names.

use pellucid::prelude::{DType, Load};

/// As the peers are told it.
pub fn name() -> String {
    std::env::var("PELLUCID_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// How our side loads models.
pub fn load(dtype: &str) -> Load {
    let dtype = if dtype == "bf16" { DType::BF16 } else { DType::F32 };
    Load { dtype, ..Load::default() }
}
