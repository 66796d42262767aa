//! A set: its model, and what holds for all of its cases.

use std::path::{Path, PathBuf};

use candle_core::DType;
use pellucid::prelude::*;
use serde_json::{Map, Value as Json};
use tempfile::TempDir;

use super::super::Fallible;
use super::super::value::Value;

/// A folder of the published files' form, of a tiny model.
pub struct Set {
    folder: PathBuf,
    meta: Json,
}

impl Set {
    /// A folder, and what its cases' file says of them all.
    pub fn new(folder: &Path, meta: &Json) -> Self {
        Self { folder: folder.into(), meta: meta.clone() }
    }

    /// The model, which normalises as the file says.
    pub fn vlm(&self, dtype: DType, overridden: &Map<String, Json>) -> Fallible<Vlm> {
        let vlm = self.model(dtype, overridden, Vlm::load_with)?;
        let (mean, std) = vlm.processor().normalisation();
        for (name, ours) in [("mean", mean), ("std", std)] {
            let theirs = Value::nested(&self.meta[name])?;
            if theirs.distance(&ours.as_slice().into()) > 1e-9 {
                return Err(format!("{name}: {ours:?}, and the file has {theirs:?}").into());
            }
        }
        Ok(vlm)
    }

    /// Its language model by itself.
    pub fn llm(&self, dtype: DType, overridden: &Map<String, Json>) -> Fallible<CausalLm> {
        self.model(dtype, overridden, CausalLm::load_with)
    }

    /// How many tokens a picture is.
    pub fn span(&self) -> Fallible<u64> {
        Ok(self.meta["image_token_span"].as_u64().ok_or("no `image_token_span`")?)
    }

    /// A model of this folder, where config.json says some things in another way.
    fn model<M>(
        &self,
        dtype: DType,
        overridden: &Map<String, Json>,
        load: fn(&str, &Load) -> Result<M>,
    ) -> Fallible<M> {
        let copy = copied(&self.folder, overridden)?;
        let path = copy.path().to_str().ok_or("a path that is not UTF-8")?;
        Ok(load(path, &Load { dtype, ..Load::default() })?)
    }
}

/// A copy of a model's files, with changes to config.json.
fn copied(folder: &Path, overridden: &Map<String, Json>) -> Fallible<TempDir> {
    let copy = TempDir::new()?;
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        std::fs::copy(file.path(), copy.path().join(file.file_name()))?;
    }
    let mut config: Map<String, Json> = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    config.extend(overridden.clone());
    std::fs::write(copy.path().join("config.json"), serde_json::to_vec(&config)?)?;
    Ok(copy)
}
