//! Where our side works.

use pellucid::Result;
use pellucid::prelude::{DType, Device, Load};

/// STAND-IN for `pellucid::device()`, to be replaced by it: the device that `PELLUCID_DEVICE` names, `cpu` or `cuda:0`.
pub fn device() -> Result<Device> {
    match name().strip_prefix("cuda:") {
        Some(number) => Ok(Device::new_cuda(number.parse().unwrap_or(0))?),
        None => Ok(Device::Cpu),
    }
}

/// As the peers are told it.
pub fn name() -> String {
    std::env::var("PELLUCID_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// How our side loads models.
pub fn load(dtype: &str) -> Result<Load> {
    let dtype = if dtype == "bf16" { DType::BF16 } else { DType::F32 };
    Ok(Load { dtype, device: device()?, ..Load::default() })
}
