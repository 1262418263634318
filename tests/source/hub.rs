//! The hub client against a small server on the loopback device.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use safetensors::tensor::{Dtype, TensorView, serialize};
use xgbrun::error::{Class, class_of, hint_of};
use xgbrun::source::hub::Hub;
use xgbrun::source::{Safetensors, TensorSource};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "secret";

/// A request's line and its headers `authorization` and `range`.
type Request = (String, Option<String>, Option<String>);

/// A server of one repository, `owner/tiny`, with the branch `main` and the revision `v2`.
struct Server {
    endpoint: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serves `files`; with `gated`, only to those who send the token.
    fn start(files: BTreeMap<String, Vec<u8>>, gated: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (files, log) = (files.clone(), log.clone());
                std::thread::spawn(move || answer(stream.unwrap(), &files, gated, &log));
            }
        });
        Self { endpoint, seen }
    }

    fn hub(&self, cache: &tempfile::TempDir, token: Option<&str>) -> Hub {
        Hub::new(&self.endpoint, cache.path().join("hub"), token.map(str::to_owned))
    }

    fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(
    stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    gated: bool,
    log: &Mutex<Vec<Request>>,
) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            let found = lines
                .iter()
                .filter_map(|line| line.split_once(": "))
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned())
        };
        log.lock().unwrap().push((lines[0].clone(), header("authorization"), header("range")));
        let path = lines[0].split(' ').nth(1).unwrap();
        let allowed =
            !gated || header("authorization").as_deref() == Some(&format!("Bearer {TOKEN}"));
        let reply = if allowed { serve(path, header("range"), files) } else { None };
        let status = if allowed { "404 Not Found" } else { "401 Unauthorized" };
        let reply = reply.unwrap_or_else(|| {
            format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes()
        });
        if reader.get_mut().write_all(&reply).is_err() {
            return;
        }
    }
}

/// What the hub answers: the list of files, or a range of one.
fn serve(path: &str, range: Option<String>, files: &BTreeMap<String, Vec<u8>>) -> Option<Vec<u8>> {
    let branches = ["models", "datasets"].map(|kind| {
        ["main", "v2"].map(|branch| format!("/api/{kind}/owner/tiny/revision/{branch}"))
    });
    if branches.as_flattened().iter().any(|branch| branch == path) {
        let siblings: Vec<_> =
            files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        return Some(
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: \
                 {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
        );
    }
    let path = path.strip_prefix("/datasets").unwrap_or(path);
    let name = path
        .strip_prefix("/owner/tiny/resolve/main/")
        .or_else(|| path.strip_prefix("/owner/tiny/resolve/v2/"))?;
    let bytes = files.get(name)?;
    let range = range?;
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: usize = from.parse().ok()?;
    let to = to.parse().unwrap_or(bytes.len() - 1).min(bytes.len() - 1);
    let body = &bytes[from..=to];
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\netag: \"{}-{}\"\r\nx-repo-commit: \
         {COMMIT}\r\naccept-ranges: bytes\r\n\
         content-range: bytes {from}-{to}/{}\r\ncontent-length: {}\r\n\r\n",
        name.replace('.', "-"),
        bytes.len(),
        bytes.len(),
        body.len()
    );
    Some([head.as_bytes(), body].concat())
}

fn weights(name: &str) -> Vec<u8> {
    serialize([(name, TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap())], None).unwrap()
}

fn files(extra: Vec<(&str, Vec<u8>)>) -> BTreeMap<String, Vec<u8>> {
    let common = [
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("README.md", b"# tiny".to_vec()),
    ];
    common.into_iter().chain(extra).map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

fn single() -> BTreeMap<String, Vec<u8>> {
    files(vec![("model.safetensors", weights("a")), ("tokenizer_config.json", b"{}".to_vec())])
}

#[test]
fn a_model_is_fetched_once() {
    let (server, cache) = (Server::start(single(), false), tempfile::tempdir().unwrap());
    let fetched = server.hub(&cache, None).model("owner/tiny", None).unwrap();
    assert_eq!(std::fs::read(&fetched.config).unwrap(), b"{}");
    assert_eq!(fetched.others.len(), 1);
    assert_eq!(Safetensors::open(&fetched.weights).unwrap().names(), ["a"]);
    assert!(!fetched.root.join("README.md").exists());
    let requests = server.requests();
    assert!(
        requests.iter().all(|(line, token, _)| token.is_none() && !line.contains("README")),
        "{requests:?}"
    );

    // The second time, nothing is asked, and nobody needs to be there.
    assert_eq!(server.hub(&cache, None).model("owner/tiny", None).unwrap(), fetched);
    assert_eq!(server.requests().len(), requests.len());
    assert_eq!(
        Hub::new(closed(), cache.path().join("hub"), None).model("owner/tiny", None).unwrap(),
        fetched
    );
}

#[test]
fn shards_a_revision_and_a_token() {
    let index = br#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#.to_vec();
    let extra = vec![
        ("model.safetensors.index.json", index),
        ("m-1.safetensors", weights("a")),
        ("m-2.safetensors", weights("b")),
        ("m-3.safetensors", weights("c")),
    ];
    let (server, cache) = (Server::start(files(extra), true), tempfile::tempdir().unwrap());
    let fetched = server.hub(&cache, Some(TOKEN)).model("owner/tiny", Some("v2")).unwrap();
    assert_eq!(Safetensors::open(&fetched.weights).unwrap().names(), ["a", "b"]);
    for (line, token, _) in server.requests() {
        assert!(line.contains("/v2"), "{line}");
        assert_eq!(token.as_deref(), Some("Bearer secret"));
    }
    // Another revision is another thing.
    let before = server.requests().len();
    server.hub(&cache, Some(TOKEN)).model("owner/tiny", None).unwrap();
    assert!(server.requests().len() > before);
}

#[test]
fn a_download_cut_off_goes_on() {
    let (server, cache) = (Server::start(single(), false), tempfile::tempdir().unwrap());
    let hub = server.hub(&cache, None);
    let weights = hub.model("owner/tiny", None).unwrap().weights[0].clone();
    // As an interrupted run leaves it: no link to the file, and half of it under another name.
    let (blob, whole) = (weights.canonicalize().unwrap(), std::fs::read(&weights).unwrap());
    std::fs::remove_file(&weights).unwrap();
    std::fs::write(blob.with_extension("part"), &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_file(&blob).unwrap();
    assert_eq!(std::fs::read(&hub.model("owner/tiny", None).unwrap().weights[0]).unwrap(), whole);
    let (_, _, range) = server.requests().pop().unwrap();
    assert_eq!(range, Some(format!("bytes={}-", whole.len() / 2)));
}

fn refused(hub: &Hub, id: &str, revision: Option<&str>) -> (String, String) {
    let error = hub.model(id, revision).unwrap_err();
    assert_eq!(class_of(&error), Class::Data);
    (error.to_string(), hint_of(&error).unwrap_or_default().to_owned())
}

/// An endpoint at which nobody listens.
fn closed() -> String {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("http://{address}")
}

#[test]
fn offline_says_so_at_once() {
    let (endpoint, cache, start) = (closed(), tempfile::tempdir().unwrap(), Instant::now());
    let (message, hint) =
        refused(&Hub::new(endpoint.clone(), cache.path(), None), "owner/tiny", None);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(
        message.starts_with(&format!("cannot reach {endpoint} for `owner/tiny`, and the cache `")),
        "{message}"
    );
    assert_eq!(
        hint,
        "offline, pass a local folder or a GGUF file, or set HF_HOME to a cache that holds it"
    );
}

#[test]
fn what_the_hub_refuses_is_told_apart() {
    let (server, cache) = (Server::start(single(), true), tempfile::tempdir().unwrap());
    let end = &server.endpoint;
    let (message, hint) = refused(&server.hub(&cache, None), "owner/tiny", None);
    assert_eq!(
        message,
        format!(
            "{end} refuses `owner/tiny` (status 401): it needs a token, or there is no such \
             repository"
        )
    );
    assert!(hint.contains("HF_TOKEN"));
    let (message, _) = refused(&server.hub(&cache, Some("wrong")), "owner/tiny", None);
    assert!(
        message.ends_with(
            "the token that was sent does not give access to it, or there is no such repository"
        ),
        "{message}"
    );
    assert!(!message.contains("wrong"));
    let hub = server.hub(&cache, Some(TOKEN));
    for (id, revision, shown) in
        [("owner/none", None, "owner/none"), ("owner/tiny", Some("v3"), "owner/tiny@v3")]
    {
        let (message, _) = refused(&hub, id, revision);
        assert_eq!(
            message,
            format!(
                "{end} has no `{shown}` (status 404): there is no such repository, revision or file"
            )
        );
    }
}

#[test]
fn a_repository_without_safetensors_is_named() {
    let server = Server::start(files(vec![("pytorch_model.bin", Vec::new())]), false);
    let (message, hint) =
        refused(&server.hub(&tempfile::tempdir().unwrap(), None), "owner/tiny", None);
    assert_eq!(message, format!("`owner/tiny` on {} has no model.safetensors", server.endpoint));
    assert_eq!(hint, "it holds README.md, config.json, pytorch_model.bin, tokenizer.json");
}

#[test]
fn a_page_that_is_no_hub_is_a_data_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
            );
        }
    });
    let (message, _) =
        refused(&Hub::new(endpoint, tempfile::tempdir().unwrap().path(), None), "owner/tiny", None);
    assert!(message.starts_with("cannot fetch `owner/tiny` from http://127.0.0.1:"), "{message}");
}

fn data_files(names: &[&str]) -> BTreeMap<String, Vec<u8>> {
    names.iter().map(|name| ((*name).to_owned(), name.as_bytes().to_vec())).collect()
}

/// Files by split, each named by what the server puts into it.
fn contents(splits: &BTreeMap<String, Vec<std::path::PathBuf>>) -> Vec<(&str, String)> {
    let text = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    splits
        .iter()
        .flat_map(|(split, files)| files.iter().map(move |file| (split.as_str(), text(file))))
        .collect()
}

#[test]
fn of_a_data_set_only_the_files_of_splits_are_fetched() {
    let shards = ["data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet"];
    let names = [
        shards[0],
        shards[1],
        "data/test-00000-of-00001-0a1b.parquet",
        "README.md",
        "train.py",
        "other/train.json",
        "data/x/dev.csv",
    ];
    let (server, cache) = (Server::start(data_files(&names), false), tempfile::tempdir().unwrap());
    let fetched = server.hub(&cache, None).data("owner/tiny", None).unwrap();
    let pair = |split: &'static str, name: &str| (split, name.to_owned());
    assert_eq!(
        contents(&fetched),
        [pair("test", names[2]), pair("train", shards[1]), pair("train", shards[0])]
    );
    let requests = server.requests();
    let asked = |name: &str| requests.iter().any(|(line, ..)| line.contains(name));
    assert!(
        asked("/datasets/owner/tiny/resolve/main/data/test-")
            && !asked("README")
            && !asked("other")
            && !asked("dev.csv"),
        "{requests:?}"
    );
    // The second time, nothing is asked, and nobody needs to be there.
    assert_eq!(
        Hub::new(closed(), cache.path().join("hub"), None).data("owner/tiny", None).unwrap(),
        fetched
    );

    // A download cut off goes on, though some files are there.
    std::fs::remove_file(&fetched["train"][1]).unwrap();
    assert_eq!(server.hub(&cache, None).data("owner/tiny", None).unwrap(), fetched);
    assert!(server.requests().len() > requests.len());
    // Another revision is another thing.
    assert_eq!(
        contents(&server.hub(&cache, None).data("owner/tiny", Some("v2")).unwrap()).len(),
        3
    );
}

#[test]
fn a_data_set_in_the_root_comes_before_its_folders() {
    let server = Server::start(data_files(&["train.csv", "dev.csv", "data/test.csv"]), false);
    let cache = tempfile::tempdir().unwrap();
    let fetched = server.hub(&cache, None).data("owner/tiny", None).unwrap();
    assert_eq!(
        contents(&fetched),
        [("train", "train.csv".to_owned()), ("validation", "dev.csv".to_owned())]
    );
    // A recipe can name what no rule finds.
    let named = |name: &str| {
        server.hub(&cache, None).data_with(
            "owner/tiny",
            None,
            &[("train", vec![name.to_owned()])].into(),
        )
    };
    assert_eq!(contents(&named("data/test.csv").unwrap()), [("train", "data/test.csv".to_owned())]);
    let error = named("data/tets.csv").unwrap_err();
    let message = format!(
        "`owner/tiny` on {} has no file `data/tets.csv`; did you mean `data/test.csv`?",
        server.endpoint
    );
    assert_eq!((error.to_string(), class_of(&error)), (message, Class::Data));
}

#[test]
fn a_data_set_without_splits_is_named() {
    let refused = |names: &[&str]| {
        let server = Server::start(data_files(names), false);
        let error =
            server.hub(&tempfile::tempdir().unwrap(), None).data("owner/tiny", None).unwrap_err();
        assert_eq!(class_of(&error), Class::Data);
        error.to_string().replace(&server.endpoint, "HUB")
    };
    let none = "`owner/tiny` on HUB has no files of splits (train, validation, test) in its root, \
                in `data` or in `default`";
    assert_eq!(refused(&["README.md", "train.py", "en/train.json"]), none);
    assert_eq!(
        refused(&["train.csv", "train.json"]),
        "data folder `owner/tiny` has two files for train: `train.csv` and `train.json`"
    );
    let lacking = "data folder `owner/tiny` has shards of train (`train-00000-of-00002.csv`), but \
                   lacks number 1 of 2, counted from 0";
    assert_eq!(refused(&["data/train-00000-of-00002.csv"]), lacking);
}

#[test]
fn data_of_the_hub_has_to_be_allowed() {
    let error = xgbrun::source::resolve("owner/tiny", &xgbrun::source::Grants::none()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`owner/tiny` would be fetched from the hub, which the recipe may not ask for by itself"
    );
    assert_eq!(class_of(&error), Class::Usage);
}
