//! Where models and inputs live: on the CPU, or on the device that `PELLUCID_DEVICE` names.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::{Mutex, PoisonError};

use candle_core::Device;
use candle_core::utils::{cuda_is_available, metal_is_available};

use crate::{Error, Result};

/// The device that the environment variable `PELLUCID_DEVICE` names: `cpu`, `cuda:0` (or `cuda`), `cuda:1`, …, `metal:0`; the
/// CPU where it is unset.
///
/// Every model is loaded there, unless [`Load::device`](crate::model::Load) says otherwise. What a model reads lives beside it; a
/// tensor of your own joins them with `&device()?` or `x.device()`. A process has one handle of each device, so what different
/// models made can meet.
///
/// Errors: another spelling; a device whose feature was not compiled in; one that does not answer. The CPU never stands in
/// for a device that was asked for.
///
/// **When it misleads**: devices add up in different orders, so the same seed gives the same explanation only up to rounding.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let x = bert.embed(&bert.read("a fine film")?)?;
/// assert!(x.device().same_device(&device()?));
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn device() -> Result<Device> {
    match std::env::var_os("PELLUCID_DEVICE") {
        None => Ok(Device::Cpu),
        Some(name) => named(&name.to_string_lossy())?.map_or(Ok(Device::Cpu), |(kind, number)| kind.opened(number)),
    }
}

/// Devices other than the CPU, of which a machine may have several.
///
/// A GPU gets a stream of its own: the one of `Device::new_cuda` is another for each thread, and what one thread computes another
/// could read too early.
struct Kind {
    /// How it is spelt, and the feature that compiles it in.
    name: &'static str,
    is_compiled: fn() -> bool,
    new: fn(usize) -> candle_core::Result<Device>,
}

const KINDS: [&Kind; 2] = [
    &Kind { name: "cuda", is_compiled: cuda_is_available, new: Device::new_cuda_with_stream },
    &Kind { name: "metal", is_compiled: metal_is_available, new: Device::new_metal },
];

/// The kind and the number that a name says; `None` for the CPU.
fn named(name: &str) -> Result<Option<(&'static Kind, usize)>> {
    let (kind, number) = name.split_once(':').unwrap_or((name, "0"));
    match (KINDS.into_iter().find(|known| known.name == kind), number.parse()) {
        (Some(kind), Ok(number)) => Ok(Some((kind, number))),
        _ if name == "cpu" => Ok(None),
        _ => Err(Error::argument(format!(
            "PELLUCID_DEVICE is `{name}`, expected `cpu`, `cuda:0` (a number of `nvidia-smi -L`) or `metal:0`: correct it, or \
             unset it for the CPU"
        ))),
    }
}

impl Kind {
    /// The one handle of a device: kernels are loaded once, and on Metal tensors of two handles could not meet.
    fn opened(&self, number: usize) -> Result<Device> {
        static OPEN: Mutex<BTreeMap<(&str, usize), Device>> = Mutex::new(BTreeMap::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get(&(self.name, number)) {
            Some(device) => Ok(device.clone()),
            None => Ok(open.entry((self.name, number)).or_insert(self.answering(number)?).clone()),
        }
    }

    /// A new handle. The bindings may panic where there is no driver, or no device of that number.
    fn answering(&self, number: usize) -> Result<Device> {
        let name = self.name;
        if !(self.is_compiled)() {
            return Err(Error::argument(format!(
                "PELLUCID_DEVICE asks for `{name}:{number}`, and pellucid was compiled without its feature `{name}`: build with \
                 `--features {name}`, or set PELLUCID_DEVICE=cpu"
            )));
        }
        let silent = |why: String| {
            Error::argument(format!(
                "PELLUCID_DEVICE asks for `{name}:{number}`, and that device does not answer ({why}): see which there are \
                 (`nvidia-smi -L` for cuda), or set PELLUCID_DEVICE=cpu"
            ))
        };
        match catch_unwind(|| (self.new)(number)) {
            Ok(device) => device.map_err(|error| silent(error.to_string())),
            Err(_) => Err(silent("its driver's binding panicked".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is understood by a name.
    fn understood(name: &str) -> Result<Option<(&'static str, usize)>> {
        Ok(named(name)?.map(|(kind, number)| (kind.name, number)))
    }

    #[test]
    fn names_are_understood_or_refused() -> Result<()> {
        let right = [
            ("cpu", None),
            ("cuda", Some(("cuda", 0))),
            ("cuda:3", Some(("cuda", 3))),
            ("metal:0", Some(("metal", 0))),
        ];
        for (name, meant) in right {
            assert_eq!(understood(name)?, meant, "{name}");
        }
        for wrong in ["", "gpu", "CUDA:0", "cuda:", "cuda:x", "cuda:-1", "cuda0", "cpu:0", " cpu"] {
            let said = understood(wrong).expect_err(wrong).to_string();
            assert!(said.contains(&format!("`{wrong}`")) && said.contains("expected `cpu`, `cuda:0`"), "{said}");
        }
        Ok(())
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let said = |kind: &Kind| kind.opened(0).expect_err(kind.name).to_string();
        let without = Kind { name: "cuda", is_compiled: || false, new: |_| Ok(Device::Cpu) };
        assert!(said(&without).contains("`--features cuda`"), "{}", said(&without));
        let silent = Kind { is_compiled: || true, new: |_| Err(candle_core::Error::Msg("no GPU".into())), ..without };
        assert!(said(&silent).contains("`cuda:0`, and that device does not answer (no GPU)"), "{}", said(&silent));
        let panics = Kind { new: |_| panic!("no driver"), ..silent };
        assert!(said(&panics).contains("panicked"), "{}", said(&panics));
    }
}
