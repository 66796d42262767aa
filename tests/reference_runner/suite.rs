//! The folder's models, each loaded once per precision.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pellucid::prelude::*;
use serde_json::Value as Json;

use super::Fallible;
use crate::minilm;

/// How a type of model is loaded from a folder.
pub type Loader<M> = fn(&str, &Load) -> Result<M>;

/// A reference folder.
pub struct Suite {
    folder: PathBuf,
    models: Json,
    loaded: RefCell<BTreeMap<(String, bool), Box<dyn Any>>>,
}

impl Suite {
    /// A folder whose `cases.json` lists these models.
    pub fn new(folder: &Path, models: &Json) -> Self {
        Self { folder: folder.into(), models: models.clone(), loaded: RefCell::default() }
    }

    /// The architecture of a model, empty if the files do not say.
    pub fn architecture(&self, model: &str) -> String {
        self.models[model]["arch"].as_str().unwrap_or_default().into()
    }

    /// A model in `f32` or `f64`, of the type that `load` loads.
    pub fn model<M: Any + Clone>(&self, name: &str, dtype: DType, load: Loader<M>) -> Fallible<M> {
        let key = (name.to_owned(), dtype == DType::F64);
        if let Some(model) = self.loaded.borrow().get(&key) {
            return Ok(model.downcast_ref::<M>().ok_or("the model is of another type")?.clone());
        }
        let model = load(&self.path(name)?, &Load { dtype, ..Load::default() })?;
        self.loaded.borrow_mut().insert(key, Box::new(model.clone()));
        Ok(model)
    }

    /// A file of the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where a model's files are.
    pub fn path(&self, model: &str) -> Fallible<String> {
        let path = match self.models[model]["folder"].as_str() {
            _ if model == "minilm" => minilm::folder(),
            Some(folder) => self.folder.join(folder),
            None => return Err(format!("no model `{model}` in the folder").into()),
        };
        Ok(path.to_str().ok_or("a path that is not UTF-8")?.into())
    }
}
