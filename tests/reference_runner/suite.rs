//! The folder's models, each loaded once per precision.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pellucid::prelude::*;
use serde_json::Value as Json;

use super::Fallible;
use crate::common::minilm;

/// A reference folder.
pub struct Suite {
    folder: PathBuf,
    models: Json,
    loaded: RefCell<BTreeMap<(String, bool), Bert>>,
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

    /// A model in `f32` or `f64`.
    pub fn bert(&self, model: &str, dtype: DType) -> Fallible<Bert> {
        let key = (model.to_owned(), dtype == DType::F64);
        if let Some(bert) = self.loaded.borrow().get(&key) {
            return Ok(bert.clone());
        }
        let bert = Bert::load_with(&self.path(model)?, &Load { dtype, ..Load::default() })?;
        self.loaded.borrow_mut().insert(key, bert.clone());
        Ok(bert)
    }

    fn path(&self, model: &str) -> Fallible<String> {
        let path = match self.models[model]["folder"].as_str() {
            _ if model == "minilm" => minilm::folder(),
            Some(folder) => self.folder.join(folder),
            None => return Err(format!("no model `{model}` in the folder").into()),
        };
        Ok(path.to_str().ok_or("a path that is not UTF-8")?.into())
    }
}
