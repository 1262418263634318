//! Models (here) and data sets (in `hub_data`) from the Hugging Face hub, or a mirror of it, through hf-hub's client and its cache.

use std::path::PathBuf;

use anyhow::Result;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::model::{CONFIG, INDEX, ModelFolder, OTHERS, TOKENIZER, WEIGHTS, folder, shards};
use super::{tokenizer_files, tokenizer_template};
use crate::bail_data;
use crate::error::Error;

const ENDPOINT: &str = "https://huggingface.co";

/// Where to fetch from, with which token, and where to keep it.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
}

impl Hub {
    /// A hub at `endpoint` with files kept in the folder `cache`.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>, token: Option<String>) -> Self {
        Self { endpoint: endpoint.into().trim_end_matches('/').to_owned(), cache: cache.into(), token }
    }

    /// As the environment says: HF_ENDPOINT, HF_HOME (else ~/.cache/huggingface), HF_TOKEN (else the file `token` there).
    ///
    /// Errors (class data): there is neither HF_HOME nor a home folder.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Result<Self> {
        let set = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let Some(home) = set("HF_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".cache").join("huggingface"))) else {
            bail_data!("no place to keep downloads: set HF_HOME, or pass a local folder");
        };
        let cache = home.join("hub");
        let token = set("HF_TOKEN").or_else(|| Cache::new(cache.clone()).token());
        Ok(Self::new(set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()), cache, token))
    }

    /// The files of the model `id` at `revision` (else `main`), from the cache where they all are, else fetched.
    /// What the cache holds is not looked up again: a branch that moved on is fetched anew into an empty cache only.
    ///
    /// Errors (class data): the hub cannot be reached, has no such repository, revision or file, or wants a token.
    pub fn model(&self, id: &str, revision: Option<&str>) -> Result<ModelFolder> {
        let repo = Repo::with_revision(id.to_owned(), RepoType::Model, revision.unwrap_or("main").to_owned());
        match self.cached(&repo) {
            Some(files) => Ok(files),
            None => self.fetch(id, repo),
        }
    }

    /// The model, if a run before this one fetched all of it: weights come last.
    fn cached(&self, repo: &Repo) -> Option<ModelFolder> {
        let config = self.cache().repo(repo.clone()).get(CONFIG)?;
        folder(config.parent()?).ok()
    }

    fn fetch(&self, id: &str, repo: Repo) -> Result<ModelFolder> {
        let remote = self.remote(id, repo)?;
        let has = |name: &str| remote.listed.iter().any(|file| file == name);
        let get = |name: &str| remote.get(name);

        let weights = if has(WEIGHTS) { WEIGHTS } else { INDEX };
        let tokenizer = tokenizer_files::choose(has).unwrap_or(&[TOKENIZER]);
        for name in [CONFIG, tokenizer[0], weights] {
            if !has(name) {
                let name = if name == INDEX { WEIGHTS } else { name };
                return Err(remote.lacks(name).into());
            }
        }
        let config = get(CONFIG)?;
        let templates = remote.listed.iter().map(String::as_str).filter(|name| tokenizer_template::is_additional(name));
        for name in tokenizer.iter().copied().chain(OTHERS.into_iter().filter(|name| has(name))).chain(templates) {
            get(name)?;
        }
        let file = get(weights)?;
        if weights == INDEX {
            for shard in shards(&file)? {
                get(&shard)?;
            }
        }
        folder(config.parent().unwrap_or(&self.cache))
    }

    /// Asks the hub what a repository holds.
    pub(super) fn remote(&self, id: &str, repo: Repo) -> Result<Remote<'_>> {
        let shown = match repo.revision() {
            "main" => id.to_owned(),
            revision => format!("{id}@{revision}"),
        };
        let failed = |error: ApiError| self.explain(&shown, "", error);
        let api = ApiBuilder::from_cache(self.cache())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .build()
            .map_err(failed)?;
        let api = api.repo(repo);
        let listed = api.info().map_err(failed)?.siblings.into_iter().map(|file| file.rfilename).collect();
        Ok(Remote { hub: self, shown, api, listed })
    }

    /// Where downloads are kept.
    pub(super) fn cache(&self) -> Cache {
        Cache::new(self.cache.clone())
    }

    /// Says for people what the client's error means.
    fn explain(&self, shown: &str, file: &str, error: ApiError) -> Error {
        let what = if file.is_empty() { format!("`{shown}`") } else { format!("`{shown}`: {file}") };
        let endpoint = &self.endpoint;
        let ApiError::RequestError(error) = error else {
            return Error::data(format!("cannot fetch {what} from {endpoint}: {error}"));
        };
        let text = error.to_string();
        match error.into_response().map(|response| response.status()) {
            Some(status @ (401 | 403)) => {
                let token = match &self.token {
                    Some(_) => "the token that was sent does not give access to it, or there is no such repository",
                    None => "it needs a token, or there is no such repository",
                };
                Error::data(format!("{endpoint} refuses {what} (status {status}): {token}"))
                    .hint("accept the model's terms on its page, then set HF_TOKEN to a token of your account")
            }
            Some(404) => Error::data(format!("{endpoint} has no {what} (status 404): there is no such repository, revision or file")),
            Some(status) => Error::data(format!("{endpoint} cannot serve {what} now (status {status})")),
            None => Error::data(format!(
                "cannot reach {endpoint} for {what}, and the cache `{}` does not hold it: {text}",
                self.cache.display()
            ))
            .hint("offline, pass a local folder or a GGUF file, or set HF_HOME to a cache that holds it"),
        }
    }
}

/// A repository whose files are known.
pub(super) struct Remote<'a> {
    hub: &'a Hub,
    /// Its id, with its revision unless that is `main`.
    pub shown: String,
    api: ApiRepo,
    pub listed: Vec<String>,
}

impl Remote<'_> {
    /// Fetches a file, unless the cache holds it.
    pub fn get(&self, name: &str) -> Result<PathBuf> {
        Ok(self.api.get(name).map_err(|e| self.hub.explain(&self.shown, name, e))?)
    }

    /// An error about what the repository holds, which is told beside it.
    pub fn lacks(&self, what: &str) -> Error {
        Error::data(format!("`{}` on {} has no {what}", self.shown, self.hub.endpoint)).hint(others(&self.listed))
    }
}

/// A hint at what a repository holds instead.
fn others(listed: &[String]) -> String {
    let shown: Vec<&str> = listed.iter().map(String::as_str).filter(|name| !name.starts_with('.')).take(12).collect();
    format!("it holds {}{}", shown.join(", "), if listed.len() > 12 { ", …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)], home: Option<&str>) -> Result<Hub> {
        let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Hub::from_variables(get, home.map(PathBuf::from))
    }

    #[test]
    fn the_environment_decides() {
        let plain = hub(&[], Some("/nowhere")).unwrap();
        assert_eq!((plain.endpoint.as_str(), plain.token), (ENDPOINT, None));
        assert_eq!(plain.cache, PathBuf::from("/nowhere/.cache/huggingface/hub"));

        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "kept\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let set = hub(&[("HF_HOME", home), ("HF_ENDPOINT", "http://mirror/"), ("HF_TOKEN", "")], None).unwrap();
        assert_eq!((set.endpoint.as_str(), set.token.as_deref()), ("http://mirror", Some("kept")));
        assert_eq!(set.cache, folder.path().join("hub"));
        assert_eq!(hub(&[("HF_HOME", home), ("HF_TOKEN", "mine")], None).unwrap().token.as_deref(), Some("mine"));
        assert!(hub(&[], None).unwrap_err().to_string().contains("HF_HOME"));
    }
}
