//! PyTorch's own files: archives of numbers, with a pickle that says which tensors they are. The pickle is read as data, and
//! nothing in it is executed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::pickle::PthTensors;
use candle_core::{DType, Device, Layout, Tensor};

use crate::{Error, Result};

/// The files of a checkpoint; their tensors are read when they are asked for.
#[derive(Clone)]
pub(crate) struct Pytorch(Arc<Vec<Archive>>);

/// One file of them.
struct Archive {
    path: PathBuf,
    tensors: PthTensors,
}

/// Under which names training programs put the weights beside what else they save.
const WRAPPERS: [&str; 2] = ["state_dict", "model"];

impl Pytorch {
    /// Reads what tensors there are.
    ///
    /// Errors: a file that is truncated, of another format, of a PyTorch before 1.6, or without named tensors.
    pub fn open(files: Vec<PathBuf>) -> Result<Self> {
        Ok(Self(Arc::new(files.into_iter().map(Archive::open).collect::<Result<_>>()?)))
    }

    /// The shapes of the tensors, by their names.
    pub fn shapes(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let infos = self.0.iter().flat_map(|archive| archive.tensors.tensor_infos());
        infos.map(|(name, info)| (name.clone(), info.layout.dims().to_vec()))
    }

    /// A tensor in a precision; `None` if there is no such tensor.
    ///
    /// Errors: a view that leaves out some of its numbers, or has them in an order that is neither of rows nor of columns.
    pub fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Option<Tensor>> {
        let Some(archive) = self.0.iter().find(|archive| archive.tensors.tensor_infos().contains_key(name)) else {
            return Ok(None);
        };
        let tensor = archive.tensor(name)?;
        Ok(tensor.map(|tensor| tensor.to_device(device)?.to_dtype(dtype)).transpose()?)
    }
}

impl Archive {
    /// Of what a file holds by several names, the part with the most tensors.
    fn open(path: PathBuf) -> Result<Self> {
        check_beginning(&path)?;
        let plain = PthTensors::new(&path, None).map_err(|error| Error::file(&path, broken(&error)))?;
        let wrapped = WRAPPERS.iter().filter_map(|key| PthTensors::new(&path, Some(key)).ok());
        let fullest = std::iter::once(plain).chain(wrapped).max_by_key(|tensors| tensors.tensor_infos().len());
        match fullest.filter(|tensors| !tensors.tensor_infos().is_empty()) {
            Some(tensors) => Ok(Self { path, tensors }),
            None => Err(Error::file(path, NO_TENSORS)),
        }
    }

    /// A tensor as it was saved.
    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        let layout = self.tensors.tensor_infos().get(name).map(|info| &info.layout);
        if let Some(layout) = layout.filter(|layout| !layout.is_contiguous() && !layout.is_fortran_contiguous()) {
            return Err(Error::file(&self.path, scattered(name, layout)));
        }
        self.tensors
            .get(name)
            .map_err(|error| Error::file(&self.path, format!("`{name}` cannot be read: {}", broken(&error))))
    }
}

/// What is said of a file with nothing in it to ask for.
const NO_TENSORS: &str = "it holds no tensors by name: perhaps a whole Python object was saved. In Python, save its weights \
                          alone: `torch.save(model.state_dict(), path)`";

/// Errors if the file does not begin as an archive does.
fn check_beginning(path: &Path) -> Result<()> {
    let mut beginning = Vec::new();
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    file.take(4).read_to_end(&mut beginning).map_err(|error| Error::file(path, error))?;
    match beginning[..] {
        [b'P', b'K', 3, 4] => Ok(()),
        [0x80, ..] => Err(Error::file(
            path,
            "a bare pickle, as PyTorch wrote before 1.6, which is not read here. Convert it in Python: \
             `torch.save(torch.load(path, weights_only=True), path)`",
        )),
        _ => Err(Error::file(path, broken(&"it does not begin as one"))),
    }
}

/// What is said of a file that cannot be understood.
fn broken(error: &dyn std::fmt::Display) -> String {
    format!("not a whole PyTorch file ({error}): it is truncated or of another format; fetch it again")
}

/// What is said of a tensor whose numbers do not lie together.
fn scattered(name: &str, layout: &Layout) -> String {
    format!(
        "`{name}` was saved as a view of other numbers, of shape {:?} with strides {:?}, which is not read here. In Python, \
         save its `.contiguous()`",
        layout.dims(),
        layout.stride()
    )
}
