//! Files of a model on the Hugging Face hub, through its local cache.

use std::path::PathBuf;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use crate::progress::Progress;
use crate::{Error, Result};

/// A model on the hub, at a revision.
pub(crate) struct HubModel {
    id: String,
    cache: CacheRepo,
    /// `None` when the environment asks to stay offline.
    api: Option<ApiRepo>,
}

impl HubModel {
    /// Nothing is fetched yet. `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured.
    pub fn new(id: &str, revision: Option<&str>) -> Result<Self> {
        let repo = Repo::with_revision(id.into(), RepoType::Model, revision.unwrap_or("main").into());
        let cache = Cache::from_env();
        let mut builder = ApiBuilder::from_env().with_progress(false);
        if let Ok(token) = std::env::var("HF_TOKEN") {
            builder = builder.with_token(Some(token));
        }
        let api = match offline() {
            true => None,
            false => Some(builder.build().map_err(|error| unreachable_hub(id, &error))?.repo(repo.clone())),
        };
        Ok(Self { id: id.into(), cache: cache.repo(repo), api })
    }

    /// Whether the environment forbids to fetch anything.
    pub fn is_offline(&self) -> bool {
        self.api.is_none()
    }

    /// A file of the model, from the cache or else fetched; `None` if the model has no such file.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        if let Some(path) = self.cache.get(name) {
            return Ok(Some(path));
        }
        let Some(api) = &self.api else { return self.offline_without(name) };
        match api.download_with_progress(name, Download(None)) {
            Ok(path) => Ok(Some(path)),
            Err(error) => match status(&error) {
                Some(404) if name != "config.json" => Ok(None),
                Some(code) => Err(refused(&self.id, code)),
                None => Err(unreachable_hub(&self.id, &error)),
            },
        }
    }

    /// Offline, what is not in the cache might exist: only a model without its configuration is surely missing.
    fn offline_without(&self, name: &str) -> Result<Option<PathBuf>> {
        match name {
            "config.json" => Err(Error::NotFound(format!(
                "`{}` is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it. Unset HF_HUB_OFFLINE, {ELSEWHERE}",
                self.id
            ))),
            _ => Ok(None),
        }
    }
}

const ELSEWHERE: &str = "or download the model's folder elsewhere and pass its path, or put it under \
                         $PELLUCID_MODELS/ORGANISATION/NAME, or use an embedded model such as `pellucid/tiny-bert-sentiment`";

fn offline() -> bool {
    matches!(std::env::var("HF_HUB_OFFLINE").as_deref(), Ok("1" | "true" | "TRUE" | "on" | "ON" | "yes" | "YES"))
}

/// The HTTP status the hub answered with, if it answered.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status(error),
        _ => None,
    }
}

fn refused(id: &str, code: u16) -> Error {
    Error::NotFound(match code {
        401 | 403 => format!(
            "the hub does not give out `{id}` (HTTP {code}): it does not exist, or its licence must be accepted on its page. \
             Then set HF_TOKEN to a token of your account"
        ),
        404 => format!("the hub has no model `{id}` with a config.json at this revision: check the spelling"),
        _ => format!("the hub answered HTTP {code} for `{id}`: try again later, {ELSEWHERE}"),
    })
}

fn unreachable_hub(id: &str, error: &ApiError) -> Error {
    Error::NotFound(format!(
        "`{id}` is not in the local cache and the hub cannot be reached ({error}). Connect to the network once, {ELSEWHERE}"
    ))
}

/// A download's progress, in bytes.
struct Download(Option<Progress>);

impl hf_hub::api::Progress for Download {
    fn init(&mut self, size: usize, name: &str) {
        self.0 = Some(Progress::new(&format!("{name}, bytes"), size));
    }

    fn update(&mut self, size: usize) {
        if let Some(progress) = &mut self.0 {
            progress.advance(size);
        }
    }

    fn finish(&mut self) {
        self.0 = None;
    }
}
