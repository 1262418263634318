//! Data files that the loaders of Hugging Face read: by their content, compressed, in folders and
//! in the hub's cache. All hold the same two texts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::harness::{Ran, case, eval, made, program, ran, recipe};

/// The mean NLL of "Snow is white." and "Fire is hot and the sky is blue." under [`model`].
const NLL: f64 = 6.238_68;

/// A small model of the cases.
fn model() -> Option<String> {
    Some(case("refused-run-from-another-folder")?.join("a/model").display().to_string())
}

/// A copy of a case's folder, with links where the case has texts that say where they led.
fn linked(name: &str) -> Option<tempfile::TempDir> {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (path, target) =
                (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            match fs::read_link(&path).ok().or_else(|| Some(fs::read_to_string(&path).ok()?.into()))
            {
                _ if path.is_dir() && !path.is_symlink() => copy(&path, &target),
                Some(link) if link.starts_with("../..") => symlink(link, target).unwrap(),
                _ => fs::write(target, fs::read(&path).unwrap()).unwrap(),
            }
        }
    }
    let from = case(name)?;
    let home = tempfile::tempdir().unwrap();
    copy(&from, home.path());
    Some(home)
}

#[test]
fn files_that_loaders_read_are_read() {
    let (Some(folder), Some(model)) = (case("refused-data-files"), model()) else { return };
    for file in ["json_lines_in_json.json", "jsonl_gz.jsonl.gz", "nan_value.jsonl"] {
        eval(&folder, &model, file, &[]).has_nll(NLL);
    }
    for file in [
        "c_gzip.parquet",
        "c_brotli.parquet",
        "c_lz4.parquet",
        "odd_columns.parquet",
        "hub2",
        "hub2/default",
    ] {
        eval(&folder.join("parquet"), &model, file, &[]).has_nll(NLL);
    }
    let one = "`lone_surrogate.jsonl` line 1: `text` is a text with half of a surrogate pair \
               (`\\ud83d`), which is no Unicode";
    eval(&folder, &model, "lone_surrogate.jsonl", &[]).refused(3, &[one]);
    let rows = "`json_object_of_rows.json` holds one object, whose `data` is the list of records";
    eval(&folder, &model, "json_object_of_rows.json", &[])
        .refused(3, &[rows, "jq -c '.data[]' json_object_of_rows.json > train.jsonl"]);
    let disk = [
        "`parquet/disk` holds a data set that `save_to_disk` wrote, in Arrow files",
        "Dataset.load_from_disk(\"parquet/disk\").to_parquet(",
    ];
    eval(&folder, &model, "parquet/disk", &[]).refused(3, &disk);
    let arrow = [
        "`parquet/stream.arrow` is an Arrow file",
        "Dataset.from_file(\"parquet/stream.arrow\").to_parquet(",
    ];
    eval(&folder, &model, "parquet/stream.arrow", &[]).refused(3, &arrow);
}

#[test]
fn an_empty_list_of_calls_is_none() {
    let (Some(folder), Some(models)) = (case("refused-data-files"), case("silent-columns-dropped"))
    else {
        return;
    };
    let model = models.join("model").display().to_string();
    let template = ["--template", "chat"];
    let talk = concat!(
        r#"{"messages": [{"role": "system", "content": "Be brief."}, "#,
        r#"{"role": "user", "content": "What is snow?"}, "#,
        r#"{"role": "assistant", "content": "Snow is white."}]}"#,
    );
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("talk.jsonl"), format!("{talk}\n{talk}\n")).unwrap();
    let plain = eval(home.path(), &model, "talk.jsonl", &template).nll();
    eval(&folder, &model, "parquet/messages_empty_list.parquet", &template).has_nll(plain);
    let Some((made, _)) = made("data_files.py") else { return };
    let plain = eval(made.path(), &model, "chat.jsonl", &template).nll();
    eval(made.path(), &model, "chat.parquet", &template).has_nll(plain);
    let tools = eval(made.path(), &model, "tools.jsonl", &template).nll();
    eval(made.path(), &model, "tools.parquet", &template).has_nll(tools);
    eval(made.path(), &model, "called.parquet", &template)
        .refused(3, &["`called.parquet` row 1", "`tool_calls`"]);
}

#[test]
fn what_pyarrow_gzip_and_zstandard_write_is_read() {
    let (Some(model), Some((home, expected))) = (model(), made("data_files.py")) else { return };
    let read: Vec<&str> =
        expected["read"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(read.len(), 29);
    for file in read {
        let ran = eval(home.path(), &model, file, &[]);
        assert_eq!(ran.code, Some(0), "{file}: {}", ran.stderr);
        ran.has_nll(NLL);
    }
    for (file, words) in [
        (
            "nan_text.parquet",
            &["`nan_text.parquet` row 1: `text` is a number, expected a string"][..],
        ),
        ("bytes_text.parquet", &["`bytes_text.parquet` row 1: `text` is bytes that are no text"]),
        ("cut.jsonl.gz", &["`cut.jsonl.gz` is compressed with gzip and is cut short"]),
        ("damaged.jsonl.gz", &["`damaged.jsonl.gz` is compressed with gzip and is damaged"]),
        ("cut.jsonl.zst", &["`cut.jsonl.zst` is compressed with Zstandard and is cut short"]),
        ("bomb.jsonl.gz", &["would unpack to more than 256 MiB, over 100 times its size"]),
        ("utf16.jsonl", &["it looks like UTF-16", "save the file as UTF-8"]),
        ("file.arrow", &["`file.arrow` is an Arrow file"]),
        (
            "dict",
            &[
                "`dict` holds a set of splits that `save_to_disk` wrote",
                "load_from_disk(\"dict\").items()",
            ],
        ),
        ("dict/train", &["Dataset.load_from_disk(\"dict/train\").to_parquet("]),
    ] {
        eval(home.path(), &model, file, &[]).refused(3, words);
    }
}

/// Writes `text` as `name` and measures it.
fn of_text(name: &str, text: &[u8], more: &[&str]) -> Option<Ran> {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(name), text).unwrap();
    Some(eval(home.path(), &model()?, name, more))
}

#[test]
fn what_a_file_is_instead_is_named() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let record = "expected a list of objects, or an object on each line";
    for (name, text, words) in [
        (
            "train.parquet",
            &pointer[..],
            &["`train.parquet` is a Git LFS pointer", "git lfs pull"][..],
        ),
        ("train.txt", pointer, &["`train.txt` is a Git LFS pointer"]),
        (
            "train.jsonl",
            b"<!DOCTYPE html>\n<html></html>",
            &["`train.jsonl` is an HTML or XML page, no data", "/resolve/"],
        ),
        ("train.csv", b"\n<HTML><body>", &["is an HTML or XML page"]),
        (
            "train.jsonl",
            b"BZh91AY&SY\xd3\x80",
            &["is compressed with bzip2, which is not read", "gzip or zstd"],
        ),
        ("train.jsonl.xz", b"\xfd7zXZ\0\0", &["is compressed with xz, which is not read"]),
        ("train.zip", b"PK\x03\x04", &["`train.zip` is a ZIP archive"]),
        ("train.json", b"PAR1....PAR1", &["`train.json` is a Parquet file, and is read as json"]),
        (
            "train.json",
            b"{\"text\": {\"0\": \"a\", \"1\": \"b\"}}",
            &["one object with a table's columns, as pandas' `to_json` writes them", record],
        ),
        ("train.json", b"{\"text\": [\"a\", \"b\"]}", &["one object with a table's columns"]),
        (
            "train.jsonl",
            b"{\"chosen\": [{\"role\": \"user\", \"content\": \"q\"}], \
              \"rejected\": [{\"role\": \"user\", \"content\": \"q\"}]}",
            &["`train.jsonl` line 1 is a preference (`chosen`)"],
        ),
        (
            "train.json",
            b"{\"dialog\": [{\"role\": \"user\", \"content\": \"q\"}]}",
            &["`train.json` line 1 has the key `dialog`, which is no record"],
        ),
        (
            "train.json",
            b"{\n \"version\": \"1.0\",\n \"rows\": [{\"text\": \"a\"}]\n}",
            &["one object, whose `rows` is the list of records"],
        ),
        (
            "train.json",
            b"{\"text\": NaN}\n",
            &["`train.json` line 1: `text` is NaN, which JSON does not have"],
        ),
        (
            "train.jsonl",
            b"{\"text\": \"a\"}\n{\"text\": [-Infinity]}\n",
            &["`train.jsonl` line 2: `text` is a list"],
        ),
        ("train.data", b"{}", &["is of no data format that is known", "--format"]),
    ] {
        let Some(ran) = of_text(name, text, &[]) else { return };
        ran.refused(3, words);
    }
}

#[test]
fn a_table_called_a_text_is_said_to_look_like_one() {
    let text = b"label\ttext\n1\tSnow is white.\n0\tFire is hot and the sky is blue.\n";
    let Some(plain) = of_text("train.txt", text, &[]) else { return };
    assert_eq!(plain.code, Some(0), "{}", plain.stderr);
    plain.says(&["`train.txt` was read as plain text, and looks like a table divided by tabs: \
                  `format: \"tsv\"`"]);
    let error = of_text("train.txt", text, &["--format", "tsv"]).unwrap();
    error.refused(3, &["has the columns `label`, `text`"]);
    let lines =
        b"{\"text\": \"Snow is white.\"}\n{\"text\": \"Fire is hot and the sky is blue.\"}\n";
    of_text("train.data", lines, &["--format", "jsonl"]).unwrap().has_nll(NLL);
    of_text("train.data", lines, &["--format", "jsnl"])
        .unwrap()
        .refused(2, &["unknown format `jsnl`; did you mean `jsonl`?"]);
}

#[test]
fn only_what_a_template_uses_has_to_be_text() {
    let Some(model) = model() else { return };
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::write(home.path().join(name), text).unwrap();
        home.path().join(name).display().to_string()
    };
    let data =
        write("train.jsonl", "{\"q\": \"a\", \"n\": NaN}\n{\"q\": \"b\\ud83d\", \"n\": 1}\n");
    let script = |prompt: &str, more: &str| {
        let template = format!("#{{ prompt: \"{prompt}\", answer: \"x\" }}");
        write(
            "r.rhai",
            &format!(
                "let p = params(#{{ data: \"\", model: \"\" }}); model::load(p.model); \
                 let t = data::load(p.data, #{{ template: {template} {more} }}); \
                 print(t.train.len);"
            ),
        )
    };
    let run = |prompt: &str, more: &str| {
        let script = script(prompt, more);
        recipe(
            Path::new(&script),
            &[("data", data.as_str()), ("model", model.as_str())],
            &["--quiet"],
        )
    };
    assert_eq!(run("fixed", "").code, Some(0));
    run("{{ n }}", "").refused(3, &["line 1: column `n` holds NaN, which JSON does not have"]);
    run("{{ q }}", "")
        .refused(3, &["line 2: column `q` holds a text with half of a surrogate pair (`\\ud83d`)"]);
    run("{{ n or 'x' }}", "").refused(3, &["line 1: column `n` holds NaN"]);
    assert_eq!(run("fixed", ", stream: true").code, Some(0));
}

#[test]
fn streams_are_lines_whatever_they_are_called() {
    let Some(model) = model() else { return };
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("r.rhai");
    let body = "let p = params(#{ data: \"\", model: \"\" }); model::load(p.model); \
                let t = data::load(p.data, #{ stream: true }); print(t.train.len);";
    fs::write(&script, body).unwrap();
    let run = |name: &str, bytes: &[u8]| {
        let data = home.path().join(name);
        fs::write(&data, bytes).unwrap();
        recipe(&script, &[("data", &data.display().to_string()), ("model", &model)], &["--quiet"])
    };
    run("train.json", b"{\"text\": \"a\"}\n{\"text\": \"b\", \"n\": NaN}\n").says(&["2"]);
    run("train.jsonl", b"[{\"text\": \"a\"}]")
        .refused(2, &["cannot be streamed: it holds a JSON list"]);
    run("train.jsonl", b"\x1f\x8b\x08\0")
        .refused(2, &["cannot be streamed: it is compressed with gzip"]);
}

/// `eval` of the data set `data` with variables of the environment.
fn with(home: &Path, model: &str, data: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = program(home);
    for name in ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).env("HF_ENDPOINT", "http://127.0.0.1:9");
    ran(command.args(["eval", model, "--data", data, "--json", "--device", "cpu"]))
}

#[test]
fn the_hubs_cache_is_used_by_id_and_by_its_folders() {
    let Some(home) = linked("refused-hub-cache-snapshot") else { return };
    let home = home.path();
    let snapshot = "hf/hub/datasets--me--talks/snapshots/abc123";
    let tiny = "hf/hub/models--me--tiny/snapshots/def456";
    let want = eval(home, tiny, &format!("{snapshot}/data/train.jsonl"), &[]).nll();
    for data in [snapshot.to_owned(), format!("{snapshot}/data")] {
        eval(home, tiny, &data, &[]).has_nll(want);
    }
    fs::create_dir_all(home.join("xdg/huggingface")).unwrap();
    symlink("../../hf/hub", home.join("xdg/huggingface/hub")).unwrap();
    for variable in [
        ("HF_HOME", "hf"),
        ("HF_HUB_CACHE", "hf/hub"),
        ("HUGGINGFACE_HUB_CACHE", "hf/hub"),
        ("XDG_CACHE_HOME", "xdg"),
    ] {
        with(home, "me/tiny", "me/talks", &[variable]).has_nll(want);
        // Without a word that the network is not there, it is not.
        with(home, "me/tiny", "me/talks", &[variable, ("HF_HUB_OFFLINE", "0")]).has_nll(want);
    }
    with(home, "me/tiny", "me/talks", &[("HF_HUB_CACHE", "none"), ("HF_HOME", "hf")])
        .refused(3, &["the cache `none` does not hold `me/"]);
    // A tag, and a commit.
    let refs = home.join("hf/hub/datasets--me--talks/refs");
    fs::write(refs.join("v1"), "abc123\n").unwrap();
    for revision in ["me/talks@v1", "me/talks@abc123"] {
        with(home, "me/tiny@def456", revision, &[("HF_HOME", "hf")]).has_nll(want);
    }
    with(home, "me/tiny", "me/talks@v2", &[("HF_HOME", "hf")])
        .refused(3, &["does not hold `me/talks@v2`, and HF_HUB_OFFLINE says"]);
}

#[test]
fn links_elsewhere_are_refused() {
    let Some(home) = linked("refused-hub-cache-snapshot") else { return };
    let home = home.path();
    let tiny = "hf/hub/models--me--tiny/snapshots/def456";
    let folder = home.join("hf/hub/datasets--me--talks/snapshots/abc123/data");
    fs::write(home.join("secret.jsonl"), "{\"text\": \"secret\"}\n").unwrap();
    let link = |target: PathBuf| {
        let _ = fs::remove_file(folder.join("train.jsonl"));
        symlink(target, folder.join("train.jsonl")).unwrap();
        eval(home, tiny, "hf/hub/datasets--me--talks/snapshots/abc123", &[])
    };
    link(home.join("secret.jsonl"))
        .refused(3, &["is a link that leads out of the data folder", "cp -RL"]);
    link("../../../../models--me--tiny/blobs/config.json".into())
        .refused(3, &["is a link that leads out of the data folder"]);
    link("../../../blobs/gone".into())
        .refused(3, &["is a link to a file that is not there", "cp -RL"]);
    // A link that was copied as a text.
    fs::remove_file(folder.join("train.jsonl")).unwrap();
    fs::write(folder.join("train.jsonl"), "../../../blobs/b1").unwrap();
    eval(home, tiny, "hf/hub/datasets--me--talks/snapshots/abc123", &[])
        .refused(3, &["holds the path of a link, not what it leads to"]);
}
