//! Files of a model on the Hugging Face hub, through its local cache.

use std::path::PathBuf;
use std::sync::OnceLock;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use crate::progress::Progress;
use crate::{Error, Result};

/// A model on the hub, at a revision.
pub(crate) struct HubModel {
    id: String,
    cache: CacheRepo,
    api: ApiRepo,
    /// Why nothing can be fetched and what to do, once that is known.
    cut_off: OnceLock<String>,
    /// That the hub has answered: what fails from then on is a failure, and no want of a network.
    answered: OnceLock<()>,
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
        let unready = |error| Error::NotFound(format!("`{id}`: {}, {ELSEWHERE}", unreachable_hub(&error)));
        let api = builder.build().map_err(unready)?.repo(repo.clone());
        let cut_off = if offline() { OnceLock::from(OFFLINE.to_string()) } else { OnceLock::new() };
        Ok(Self { id: id.into(), cache: cache.repo(repo), api, cut_off, answered: OnceLock::new() })
    }

    /// Why files that are not in the cache were not fetched, and what to do, if nothing can be fetched.
    pub fn cut_off(&self) -> Option<&str> {
        self.cut_off.get().map(String::as_str)
    }

    /// A file of the model, from the cache or else fetched; `None` if the model has no such file, or if it cannot be fetched.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        match self.cache.get(name) {
            Some(path) => Ok(Some(path)),
            None if self.cut_off().is_some() => self.without(name),
            None => self.fetched(name),
        }
    }

    fn fetched(&self, name: &str) -> Result<Option<PathBuf>> {
        let fetched = self.api.download_with_progress(name, Download(None));
        let code = fetched.as_ref().err().and_then(status);
        if fetched.is_ok() || code == Some(404) {
            self.answered.get_or_init(|| ());
        }
        match (fetched, code) {
            (Ok(path), _) => Ok(Some(path)),
            (Err(_), Some(404)) if name != "config.json" => Ok(None),
            (Err(_), Some(code @ (401 | 403 | 404))) => Err(refused(&self.id, code)),
            (Err(error), code) if of_the_network(&error).is_some() && self.answered.get().is_none() => {
                self.cut_off.get_or_init(|| match code {
                    Some(code) => format!("the hub answered HTTP {code}. Try again later"),
                    None => unreachable_hub(&error),
                });
                self.without(name)
            }
            (Err(error), _) => {
                Err(Error::NotFound(format!("`{name}` of `{}` could not be fetched ({error}): try again", self.id)))
            }
        }
    }

    /// The hub does not say whether it has a file: only a model without its configuration is surely missing.
    fn without(&self, name: &str) -> Result<Option<PathBuf>> {
        let why = self.cut_off().unwrap_or_default();
        match name {
            "config.json" => {
                Err(Error::NotFound(format!("`{}` is not in the local cache, and {why}, {ELSEWHERE}", self.id)))
            }
            _ => Ok(None),
        }
    }
}

const OFFLINE: &str = "HF_HUB_OFFLINE forbids to fetch it. Unset HF_HUB_OFFLINE";

const ELSEWHERE: &str = "or download the model's folder elsewhere and pass its path, or put it under \
                         $PELLUCID_MODELS/ORGANISATION/NAME, or use an embedded model such as `pellucid/tiny-bert-sentiment`";

fn offline() -> bool {
    matches!(std::env::var("HF_HUB_OFFLINE").as_deref(), Ok("1" | "true" | "TRUE" | "on" | "ON" | "yes" | "YES"))
}

/// What went wrong with the request itself, and not with what was to be done with the answer.
fn of_the_network(error: &ApiError) -> Option<&ureq::Error> {
    match error {
        ApiError::RequestError(error) => Some(error),
        ApiError::TooManyRetries(error) => of_the_network(error),
        _ => None,
    }
}

/// The HTTP status the hub answered with, if it answered.
fn status(error: &ApiError) -> Option<u16> {
    match of_the_network(error)? {
        ureq::Error::StatusCode(code) => Some(*code),
        _ => None,
    }
}

fn refused(id: &str, code: u16) -> Error {
    Error::NotFound(match code {
        404 => format!("the hub has no model `{id}` with a config.json at this revision: check the spelling"),
        _ => format!(
            "the hub does not give out `{id}` (HTTP {code}): it does not exist, or its licence must be accepted on its page. \
             Then set HF_TOKEN to a token of your account"
        ),
    })
}

fn unreachable_hub(error: &ApiError) -> String {
    format!("the hub cannot be reached ({error}). Connect to the network once")
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
