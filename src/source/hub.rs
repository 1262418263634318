//! Models (here) and data sets (in `hub_data`) from the Hugging Face hub, or a mirror of it,
//! through hf-hub's client and its cache.

use std::path::{Path, PathBuf};

use anyhow::Result;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::file_names::{CONFIG, INDEX, OTHERS, TOKENIZER, WEIGHTS};
use super::model_folder::{ModelFolder, folder, shards};
use super::{tokenizer_files, tokenizer_template};
use crate::error::{Error, bail, error};

const ENDPOINT: &str = "https://huggingface.co";

const OFFLINE: &str =
    "offline, pass a local folder or a GGUF file, or set HF_HOME to a cache that holds it";

/// Where to fetch from, with which token, and where to keep it.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    /// Nobody is asked: what the cache does not hold is not there.
    offline: bool,
}

impl Hub {
    /// A hub at `endpoint` with files kept in the folder `cache`.
    pub fn new(
        endpoint: impl Into<String>,
        cache: impl Into<PathBuf>,
        token: Option<String>,
    ) -> Self {
        Self {
            endpoint: endpoint.into().trim_end_matches('/').to_owned(),
            cache: cache.into(),
            token,
            offline: false,
        }
    }

    /// As the environment says, in the order of huggingface_hub: the cache is HF_HUB_CACHE, else
    /// HUGGINGFACE_HUB_CACHE, else `hub` below the home, which is HF_HOME, else `huggingface` below
    /// XDG_CACHE_HOME, else ~/.cache/huggingface; the token is HF_TOKEN, else the file
    /// HF_TOKEN_PATH, else `token` in the home. HF_ENDPOINT is a mirror; HF_HUB_OFFLINE or
    /// TRANSFORMERS_OFFLINE leaves the network alone.
    ///
    /// Errors (class data): nothing says where the cache is, not even a home folder.
    pub fn from_env() -> Result<Self> {
        Self::of(&Environment {
            variable: |name: &str| std::env::var(name).ok(),
            home: std::env::home_dir(),
        })
    }

    fn of(environment: &Environment<impl Fn(&str) -> Option<String>>) -> Result<Self> {
        let own = environment.hf_home();
        let cache = environment
            .path("HF_HUB_CACHE")
            .or_else(|| environment.path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(own.as_ref()?.join("hub")));
        let Some(cache) = cache else {
            bail!(Data, "no place to keep downloads: set HF_HOME, or pass a local folder");
        };
        let endpoint = environment.text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let hub = Self::new(endpoint, cache, environment.token(own.as_deref()));
        Ok(Self { offline: environment.offline(), ..hub })
    }

    /// The files of the model `id` at `revision` (else `main`), from the cache where they all are,
    /// else fetched. What the cache holds is not looked up again: a branch that moved on is fetched
    /// anew into an empty cache only.
    ///
    /// Errors (class data): the hub cannot be reached, has no such repository, revision or file, or
    /// wants a token.
    pub fn model(&self, id: &str, revision: Option<&str>) -> Result<ModelFolder> {
        let repo = Repo::with_revision(
            id.to_owned(),
            RepoType::Model,
            revision.unwrap_or("main").to_owned(),
        );
        // All of it is there if somebody fetched it to its end: weights come last.
        match self.snapshot(&repo).map(|kept| folder(&kept)) {
            Some(Ok(files)) => Ok(files),
            // What it lacks is said where nothing can be fetched.
            Some(Err(error)) if self.offline => Err(error),
            _ => self.fetch(id, repo),
        }
    }

    /// The folder in the cache with the files of a revision: a branch or tag that is noted there,
    /// or a commit.
    pub(super) fn snapshot(&self, repo: &Repo) -> Option<PathBuf> {
        let home = self.cache.join(repo.folder_name());
        let noted = std::fs::read_to_string(home.join("refs").join(repo.revision())).ok();
        let commit = noted.as_deref().map_or(repo.revision(), str::trim);
        let plain = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric());
        Some(home.join("snapshots").join(commit)).filter(|folder| plain && folder.is_dir())
    }

    fn fetch(&self, id: &str, repo: Repo) -> Result<ModelFolder> {
        let remote = self.remote(id, repo)?;
        let has = |name: &str| remote.listed.iter().any(|file| file == name);
        let weights = if has(WEIGHTS) { WEIGHTS } else { INDEX };
        let tokenizer = tokenizer_files::choose(has).unwrap_or(&[TOKENIZER]);
        for name in [CONFIG, tokenizer[0], weights] {
            if !has(name) {
                let name = if name == INDEX { WEIGHTS } else { name };
                return Err(remote.lacks(name).into());
            }
        }
        let config = remote.get(CONFIG)?;
        let others = OTHERS.into_iter().filter(|name| has(name));
        let templates = remote.listed.iter().map(String::as_str);
        let templates = templates.filter(|name| tokenizer_template::is_additional(name));
        for name in tokenizer.iter().copied().chain(others).chain(templates) {
            remote.get(name)?;
        }
        let file = remote.get(weights)?;
        if weights == INDEX {
            for shard in shards(&file)? {
                remote.get(&shard)?;
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
        if self.offline {
            let cache = self.cache.display();
            bail!(
                Data,
                "the cache `{cache}` does not hold `{shown}`, and HF_HUB_OFFLINE says to fetch \
                 nothing";
                hint: "{OFFLINE}"
            );
        }
        let failed = |error: ApiError| self.explain(&shown, "", error);
        let api = ApiBuilder::from_cache(self.cache())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .build()
            .map_err(failed)?;
        let api = api.repo(repo);
        let listed =
            api.info().map_err(failed)?.siblings.into_iter().map(|file| file.rfilename).collect();
        Ok(Remote { hub: self, shown, api, listed })
    }

    /// Where downloads are kept.
    pub(super) fn cache(&self) -> Cache {
        Cache::new(self.cache.clone())
    }

    /// Says for people what the client's error means.
    fn explain(&self, shown: &str, file: &str, error: ApiError) -> Error {
        let what =
            if file.is_empty() { format!("`{shown}`") } else { format!("`{shown}`: {file}") };
        let endpoint = &self.endpoint;
        let ApiError::RequestError(error) = error else {
            return error!(Data, "cannot fetch {what} from {endpoint}: {error}");
        };
        let text = error.to_string();
        match error.into_response().map(|response| response.status()) {
            Some(status @ (401 | 403)) => self.refused(&what, status),
            Some(404) => error!(
                Data,
                "{endpoint} has no {what} (status 404): there is no such repository, revision or \
                 file"
            ),
            Some(status) => {
                error!(Data, "{endpoint} cannot serve {what} now (status {status})")
            }
            None => error!(
                Data,
                "cannot reach {endpoint} for {what}, and the cache `{}` does not hold it: {text}",
                self.cache.display();
                hint: "{OFFLINE}"
            ),
        }
    }

    fn refused(&self, what: &str, status: u16) -> Error {
        let token = match &self.token {
            Some(_) => {
                "the token that was sent does not give access to it, or there is no such repository"
            }
            None => "it needs a token, or there is no such repository",
        };
        error!(
            Data,
            "{} refuses {what} (status {status}): {token}",
            self.endpoint;
            hint: "accept the model's terms on its page, then set HF_TOKEN to a token of your \
                   account"
        )
    }
}

/// Variables of the environment, and the person's home folder.
struct Environment<F> {
    variable: F,
    home: Option<PathBuf>,
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    /// A variable that is set to more than spaces.
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// A variable that is a path; `~/` begins one below the home folder.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let text = self.text(name)?;
        Some(match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        })
    }

    /// The home of Hugging Face's programs.
    fn hf_home(&self) -> Option<PathBuf> {
        let default = || {
            let caches =
                self.path("XDG_CACHE_HOME").or_else(|| Some(self.home.as_ref()?.join(".cache")));
            Some(caches?.join("huggingface"))
        };
        self.path("HF_HOME").or_else(default)
    }

    /// A token, or the one that is kept in a file, as in the home `own`.
    fn token(&self, own: Option<&Path>) -> Option<String> {
        let kept = || {
            let file = self.path("HF_TOKEN_PATH").or_else(|| Some(own?.join("token")))?;
            std::fs::read_to_string(file).ok()
        };
        self.text("HF_TOKEN")
            .or_else(kept)
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty())
    }

    /// Whether the network is to be left alone.
    fn offline(&self) -> bool {
        let yes = |text: String| ["1", "ON", "YES", "TRUE"].contains(&text.to_uppercase().as_str());
        self.text("HF_HUB_OFFLINE").or_else(|| self.text("TRANSFORMERS_OFFLINE")).is_some_and(yes)
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
        error!(Data, "`{}` on {} has no {what}", self.shown, self.hub.endpoint)
            .hint(others(&self.listed))
    }
}

/// A hint at what a repository holds instead.
fn others(listed: &[String]) -> String {
    let shown: Vec<&str> =
        listed.iter().map(String::as_str).filter(|name| !name.starts_with('.')).take(12).collect();
    format!("it holds {}{}", shown.join(", "), if listed.len() > 12 { ", …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)], home: Option<&str>) -> Result<Hub> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Hub::of(&Environment { variable, home: home.map(PathBuf::from) })
    }

    /// A home of Hugging Face's programs with a token in it.
    fn with_token() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "kept\n").unwrap();
        folder
    }

    #[test]
    fn the_environment_decides() {
        let plain = hub(&[], Some("/nowhere")).unwrap();
        assert_eq!((plain.endpoint.as_str(), plain.token), (ENDPOINT, None));
        assert_eq!(plain.cache, PathBuf::from("/nowhere/.cache/huggingface/hub"));

        let folder = with_token();
        let home = folder.path().to_str().unwrap();
        let set =
            hub(&[("HF_HOME", home), ("HF_ENDPOINT", "http://mirror/"), ("HF_TOKEN", "")], None)
                .unwrap();
        assert_eq!((set.endpoint.as_str(), set.token.as_deref()), ("http://mirror", Some("kept")));
        assert_eq!(set.cache, folder.path().join("hub"));
        assert!(hub(&[], None).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn the_cache_is_the_first_that_is_named() {
        let all = [
            ("HF_HUB_CACHE", "~/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
        ];
        let wanted = ["/me/a", "/b", "/c/hub", "/d/huggingface/hub", "/me/.cache/huggingface/hub"];
        for (from, want) in wanted.into_iter().enumerate() {
            let cache = hub(&all[from..], Some("/me")).unwrap().cache;
            assert_eq!(cache.display().to_string(), want);
        }
    }

    #[test]
    fn a_token_is_given_or_kept_in_the_home() {
        let folder = with_token();
        let home = ("HF_HOME", folder.path().to_str().unwrap());
        let token = |other| hub(&[home, other], None).unwrap().token;
        assert_eq!(token(("HF_TOKEN", "mine")).as_deref(), Some("mine"));
        assert_eq!(token(("HF_HUB_CACHE", "/a")).as_deref(), Some("kept"));
    }

    #[test]
    fn the_network_is_left_alone_where_asked() {
        let offline = |variables: &[(&str, &str)]| hub(variables, Some("/me")).unwrap().offline;
        assert!(offline(&[("HF_HUB_OFFLINE", "1")]) && offline(&[("TRANSFORMERS_OFFLINE", "yes")]));
        assert!(
            !offline(&[]) && !offline(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")])
        );
    }
}
