//! What the documents show: commands name what exists, scripts parse, links lead somewhere, lists
//! are whole.

use std::fs;
use std::path::Path;
use std::process::Command;

const DOCUMENTS: [&str; 9] = [
    "README.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/experiments.md",
    "docs/files.md",
    "docs/guide.md",
    "docs/recipes.md",
    "docs/report.md",
    "docs/tests.md",
];

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(home().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Fenced blocks of `text`: what stands behind the fence, and the content.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let (mut out, mut lines) = (vec![], text.lines());
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let content: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
            out.push((kind, content.join("\n") + "\n"));
        }
    }
    out
}

/// Files of `folder` that end in `.ending`.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(home().join(folder))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries
        .filter(|n| n.ends_with(&format!(".{ending}")))
        .map(|n| format!("{folder}/{n}"))
        .collect();
    names.sort();
    names
}

/// Exit code and what was said, of `script` run from a folder of its own.
fn run(script: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("r.rhai"), script).unwrap();
    let arguments = ["r.rhai", "--quiet", "--out", "out"];
    let output = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .current_dir(folder.path())
        .args(arguments)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Errs unless `script` compiles; it ends before it does anything. Variables that documents take as
/// given are there.
fn parses(script: &str) -> Result<(), String> {
    let given = "throw `compiled`; let p = 0; \
                 let model = 0; let booster = 0; let task = 0; let sampler = 0; let text = 0;";
    let (_, said) = run(&format!("{given} {script}"));
    if said.starts_with("error: compiled") { Ok(()) } else { Err(said) }
}

#[test]
fn the_readme_shows_the_recipe_as_it_is() {
    let recipe = read("recipes/commonsense.rhai");
    let readme = read("README.md");
    assert!(
        blocks(&readme).iter().any(|(kind, text)| kind.starts_with("rhai") && *text == recipe),
        "refresh README's recipe"
    );
}

#[test]
fn commands_name_what_exists() {
    for document in DOCUMENTS {
        for command in blocks(&read(document))
            .iter()
            .filter(|(kind, _)| *kind == "sh")
            .flat_map(|(_, text)| text.lines())
        {
            let words: Vec<&str> = command.split_whitespace().collect();
            for word in &words {
                let file =
                    [".rhai", ".rs", ".py", ".md", ".ci/run"].iter().any(|e| word.ends_with(e));
                assert!(
                    !file || home().join(word).exists(),
                    "{document}: `{command}` names `{word}`, which is not there"
                );
            }
            for pair in words.windows(2).filter(|p| p[0] == "--bench" || p[0] == "--test") {
                let folder = if pair[0] == "--bench" { "benches" } else { "tests" };
                let file = [format!("{}.rs", pair[1]), format!("{}/main.rs", pair[1])];
                assert!(
                    file.iter().any(|file| home().join(folder).join(file).exists()),
                    "{document}: `{command}`"
                );
            }
        }
    }
    // What the README tells people to type is what is checked.
    let ci = read(".ci/run");
    for (_, text) in blocks(&read("README.md"))
        .into_iter()
        .filter(|(kind, text)| *kind == "sh" && text.starts_with("cargo "))
    {
        let command = text.split(" -p ").next().unwrap().trim();
        assert!(ci.contains(command), ".ci/run does not run `{command}`");
    }
}

#[test]
fn scripts_in_documents_run() {
    let mut seen = 0;
    for document in DOCUMENTS {
        for (kind, script) in blocks(&read(document)) {
            match kind {
                "rhai" => {
                    assert_eq!(run(&script).0, Some(0), "{document}:\n{script}{}", run(&script).1)
                }
                "rhai,no_run" => {
                    parses(&script).unwrap_or_else(|said| panic!("{document}:\n{script}{said}"))
                }
                _ => continue,
            }
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} scripts were found");
}

#[test]
fn examples_of_natives_and_functions_run() {
    let mut seen = 0;
    let comments = |file: String| {
        let text = read(&file);
        let comments = text.lines().filter_map(|l| l.trim().strip_prefix("///"));
        let lines: Vec<&str> = comments.map(|l| l.strip_prefix(' ').unwrap_or(l)).collect();
        (file, lines.join("\n"))
    };
    // Functions that a registry describes have no comments in the bindings.
    let generated = written("--reference").into_iter().filter(|(file, _)| file == "optimizer.md");
    let commented = [files("src/host/bind", "rs"), files("stdlib", "rhai")].concat();
    for (file, text) in commented.into_iter().map(comments).chain(generated) {
        for (kind, script) in blocks(&text) {
            match kind {
                "rhai" => {
                    assert_eq!(run(&script).0, Some(0), "{file}:\n{script}{}", run(&script).1)
                }
                "rhai,no_run" => {
                    parses(&script).unwrap_or_else(|said| panic!("{file}:\n{script}{said}"))
                }
                other => panic!("{file}: a block of kind `{other}`"),
            }
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} examples were found");
}

/// What the program writes with `api --OPTION`, by file.
fn written(option: &str) -> std::collections::BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .args(["api", option])
        .arg(folder.path())
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    let mut out = std::collections::BTreeMap::new();
    let mut left = vec![folder.path().to_owned()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                left.push(entry);
            } else {
                let name = entry.strip_prefix(folder.path()).unwrap().display().to_string();
                out.insert(name, fs::read_to_string(&entry).unwrap());
            }
        }
    }
    out
}

#[test]
fn the_reference_is_what_the_comments_say() {
    let wanted = written("--reference");
    let folder = home().join("docs/reference");
    if std::env::var_os("XGBRUN_BLESS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        wanted.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }
    let found =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let found: std::collections::BTreeMap<String, String> =
        found.map(|name| (name.clone(), read(&format!("docs/reference/{name}")))).collect();
    assert!(
        found == wanted,
        "docs/reference is stale: XGBRUN_BLESS=1 cargo test --release --test docs"
    );
    assert!(wanted.len() > 8 && wanted["booster.md"].contains("`lr_ratio`"));
}

#[test]
fn definitions_are_those_of_natives() {
    let files = written("--definitions");
    assert_eq!(files["std/policy.rhai"], read("stdlib/policy.rhai"));
    let text = &files["xgbrun.d.rhai"];
    for line in [
        "fn probe(model: model, set: set, options: map) -> map;",
        "fn get layers(booster: booster) -> array;",
        "    fn load(name: string) -> model;",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(!text.contains("xgbrun::") && !text.contains("Result<"), "{text}");
}

#[test]
fn recipes_parse() {
    for file in
        [files("recipes", "rhai"), files("benches", "rhai"), files("src/cli", "rhai")].concat()
    {
        parses(&read(&file)).unwrap_or_else(|said| panic!("{file}: {said}"));
    }
    assert!(parses("let a = ;").is_err() && parses("nobody;").is_err());
}

#[test]
fn links_lead_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        for link in
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
        {
            if !link.starts_with("http") && !link.starts_with('#') {
                let file = link.split('#').next().unwrap();
                let target = home().join(document).parent().unwrap().join(file);
                assert!(target.exists(), "{document} links to `{link}`");
            }
        }
    }
}

/// Files below `tests` that are programs of tests, or hold some.
fn test_files() -> Vec<String> {
    let folders = fs::read_dir(home().join("tests")).unwrap().map(|e| e.unwrap().path());
    let folders = folders.filter(|path| path.join("main.rs").exists());
    let folders: Vec<String> =
        folders.map(|path| path.strip_prefix(home()).unwrap().display().to_string()).collect();
    let inside = folders.iter().flat_map(|folder| files(folder, "rs"));
    files("tests", "rs")
        .into_iter()
        .chain(inside.filter(|f| f.ends_with("/main.rs") || read(f).contains("#[test]")))
        .collect()
}

/// That what it names exists is seen with the links of all documents.
#[test]
fn the_index_of_tests_is_whole() {
    let index = read("docs/tests.md");
    let files = test_files();
    assert!(files.len() > 50, "{files:?}");
    for file in files {
        assert_eq!(index.matches(&format!("](../{file}) |")).count(), 1, "docs/tests.md: {file}");
    }
}

#[test]
fn no_document_names_a_folder_of_one_machine() {
    let more =
        [files("recipes", "rhai"), files("stdlib", "rhai"), files("benches", "rhai")].concat();
    for document in DOCUMENTS.into_iter().chain([".ci/run"]).map(str::to_owned).chain(more) {
        for folder in ["root", "home", "work", "Users"].map(|f| format!("/{f}/")) {
            let text = read(&document);
            let named = text
                .match_indices(&folder)
                .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.'));
            assert!(!named, "{document} names `{folder}`");
        }
    }
}

/// How a recipe writes each native that the bindings register, and each option they take.
fn natives() -> (Vec<String>, Vec<String>) {
    let (mut calls, mut options) = (vec![], vec![]);
    for file in files("src/host/bind", "rs") {
        let noun = file.rsplit('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let text = read(&file);
        for module in text.split("#[export_module]\n").skip(1) {
            let module = module.split("\n}\n").next().unwrap();
            let statics = module.starts_with("pub(super) mod module");
            let mut attribute = String::new();
            let mut lines = module.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line.starts_with("#[rhai_fn") {
                    attribute = line.to_owned();
                }
                let Some((name, rest)) =
                    line.strip_prefix("pub fn ").and_then(|l| l.split_once('('))
                else {
                    continue;
                };
                // Parameters may have lines of their own.
                let parameters = if rest.is_empty() {
                    lines.by_ref().take_while(|l| !l.starts_with(')')).collect::<Vec<_>>().join(" ")
                } else {
                    rest.to_owned()
                };
                let quoted = |key: &str| {
                    attribute
                        .split_once(key)
                        .and_then(|(_, r)| r.split('"').nth(1))
                        .map(str::to_owned)
                };
                let own = parameters
                    .split(", ")
                    .find(|p| !p.contains("NativeCallContext"))
                    .filter(|p| p.contains(": &mut "));
                let object = own.map(|p| p.split(':').next().unwrap());
                let name = quoted("name = ").unwrap_or_else(|| name.to_owned());
                calls.push(match (quoted("get = "), object) {
                    (Some(property), Some(object)) => format!("`{object}.{property}`"),
                    (_, Some(object)) => format!("`{object}.{name}("),
                    _ if statics => format!("`{noun}::{name}("),
                    _ => format!("`{name}("),
                });
                attribute.clear();
            }
        }
        for keys in text
            .split("Options::new(")
            .skip(1)
            .filter_map(|r| r.split_once("&[")?.1.split_once(']'))
        {
            options.extend(keys.0.split('"').skip(1).step_by(2).map(|key| format!("`{key}`")));
        }
    }
    for info in xgbrun::train::optim::OPTIMIZERS {
        calls.push(format!("`{}(", info.name));
        options.extend(info.options.iter().map(|(key, _)| format!("`{key}`")));
    }
    (calls, options)
}

#[test]
fn the_reference_lists_every_native_option_and_function() {
    let reference = read("docs/recipes.md");
    let (calls, options) = natives();
    assert!(calls.len() > 25 && options.len() > 20, "{calls:?} {options:?}");
    let mut wanted = [calls, options].concat();
    for file in files("stdlib", "rhai") {
        let module = file.rsplit('/').next().unwrap().trim_end_matches(".rhai").to_owned();
        let functions = read(&file);
        let functions = functions
            .lines()
            .filter_map(|l| l.strip_prefix("fn ")?.split_once('{'))
            .map(|(head, _)| head.trim().to_owned());
        wanted.extend(functions.map(|head| format!("`{module}::{head}`")));
    }
    let missing: Vec<&String> = wanted.iter().filter(|w| !reference.contains(w.as_str())).collect();
    assert!(missing.is_empty(), "docs/recipes.md lacks {missing:?}");
}
