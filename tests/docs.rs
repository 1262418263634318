//! What the documents show: commands name what exists, scripts parse, links lead somewhere, lists
//! are whole.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Pages made from comments. Tests of the comments look at what they show.
const REFERENCE: &str = "docs/reference";

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(home().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// README, changelog and all pages below docs but those made from comments.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    let mut left = vec!["docs".to_owned()];
    while let Some(folder) = left.pop() {
        found.extend(files(&folder, "md"));
        let entries = fs::read_dir(home().join(&folder)).unwrap().map(|e| e.unwrap());
        let folders = entries.filter(|e| e.file_type().unwrap().is_dir());
        let folders = folders.map(|e| format!("{folder}/{}", e.file_name().to_str().unwrap()));
        left.extend(folders.filter(|folder| folder != REFERENCE));
    }
    assert!(found.len() > 50, "{found:?}");
    found
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
    for document in documents() {
        for command in blocks(&read(&document))
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
    for document in documents() {
        for (kind, script) in blocks(&read(&document)) {
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
    let folder = home().join(REFERENCE);
    if std::env::var_os("XGBRUN_BLESS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        wanted.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }
    let found =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let found: std::collections::BTreeMap<String, String> =
        found.map(|name| (name.clone(), read(&format!("{REFERENCE}/{name}")))).collect();
    assert!(
        found == wanted,
        "{REFERENCE} is stale: XGBRUN_BLESS=1 cargo test --release --test docs"
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

/// The name under which GitHub links to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Lines of `text` outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for document in documents().into_iter().chain(files(REFERENCE, "md")) {
        let text = prose(&read(&document)).collect::<Vec<_>>().join("\n");
        for link in
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
        {
            if link.starts_with("http") {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let own = home().join(&document);
            let target = if file.is_empty() { own } else { own.parent().unwrap().join(file) };
            assert!(target.exists(), "{document} links to `{link}`");
            let headings = |text: String| {
                prose(&text).any(|line| line.starts_with('#') && anchor(line) == place)
            };
            assert!(
                place.is_empty() || headings(fs::read_to_string(target).unwrap()),
                "{document} links to `{link}`, which has no such heading"
            );
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} links were found");
    assert_eq!(anchor("## The way of `booster.fit`"), "the-way-of-boosterfit");
}

#[test]
fn paths_in_documents_exist() {
    let mut seen = 0;
    let endings = [".rs", ".rhai", ".py", ".sh"];
    for document in documents().into_iter().filter(|d| d != "CHANGELOG.md") {
        let text = prose(&read(&document)).collect::<Vec<_>>().join("\n");
        let code = text.split("\n\n").flat_map(|part| part.split('`').skip(1).step_by(2));
        for word in code.flat_map(str::split_whitespace) {
            let word = word.split("::").next().unwrap();
            let path = word.contains('/') && endings.iter().any(|ending| word.ends_with(ending));
            if path && !word.chars().any(|c| c.is_uppercase()) {
                let roots = ["", "src"].map(|root| home().join(root).join(word));
                assert!(roots.iter().any(|p| p.exists()), "{document} names `{word}`");
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen} paths were found");
}

#[test]
fn prose_is_a_hundred_columns_wide() {
    for document in documents().into_iter().filter(|d| d != "CHANGELOG.md") {
        let text = read(&document);
        for line in prose(&text).filter(|line| !line.starts_with('|')) {
            assert!(line.chars().count() <= 100, "{document}: {line}");
        }
    }
}

#[test]
fn an_index_lists_its_pages() {
    for folder in ["docs/decisions", "docs/experiments", REFERENCE] {
        let index = read(&format!("{folder}/README.md"));
        for page in files(folder, "md") {
            let name = page.rsplit('/').next().unwrap();
            assert!(
                name == "README.md" || index.contains(&format!("]({name})")),
                "{folder}/README.md does not list {name}"
            );
        }
    }
}

#[test]
fn a_decision_has_a_context_and_a_consequence_on_one_page() {
    let mut numbers = vec![];
    for page in files("docs/decisions", "md").iter().filter(|page| !page.ends_with("README.md")) {
        let text = read(page);
        let headings: Vec<&str> = prose(&text).filter(|line| line.starts_with('#')).collect();
        let (title, parts) = headings.split_first().unwrap();
        let number = &page.rsplit('/').next().unwrap()[..3];
        assert!(title.starts_with(&format!("# {number}. ")), "{page}: {title}");
        assert_eq!(parts, ["## Context", "## Decision", "## Consequence"], "{page}");
        assert!(text.lines().count() <= 60, "{page} is longer than a page");
        numbers.push(number.parse::<usize>().unwrap());
    }
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
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
    for document in documents().into_iter().chain([".ci/run".to_owned()]).chain(more) {
        for folder in ["root", "home", "work", "Users"].map(|f| format!("/{f}/")) {
            let text = read(&document);
            let named = text
                .match_indices(&folder)
                .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.'));
            assert!(!named, "{document} names `{folder}`");
        }
    }
}

/// How the reference writes each native that the bindings register.
fn natives() -> Vec<String> {
    let mut calls = vec![];
    let register = read("src/host/bind/mod.rs");
    for file in files("src/host/bind", "rs") {
        let noun = file.rsplit('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let text = read(&file);
        for module in text.split("#[export_module]\n").skip(1) {
            let module = module.split("\n}\n").next().unwrap();
            let statics = module.starts_with("pub(super) mod module").then(|| {
                let place = format!(", exported_module!({noun}::module)");
                let before = register.split(&place).next().unwrap();
                before.rsplit('"').nth(1).unwrap()
            });
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
                calls.push(match (quoted("get = "), object, statics) {
                    (Some(property), Some(object), _) => format!("`{object}.{property} →"),
                    (_, Some(object), _) => format!("`{object}.{name}("),
                    (_, _, Some(namespace)) => format!("`{namespace}::{name}("),
                    _ => format!("`{name}("),
                });
                attribute.clear();
            }
        }
    }
    calls.extend(xgbrun::train::optim::OPTIMIZERS.iter().map(|info| format!("`{}(", info.name)));
    calls
}

/// The natives that take options, and the options of each.
fn options() -> Vec<(String, Vec<String>)> {
    let mut found = vec![];
    let list = |text: &str| -> Vec<String> {
        let inside = text.split(']').next().unwrap();
        inside.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    };
    for file in files("src/host/bind", "rs") {
        let text = read(&file);
        for call in text.split("Options::new(").skip(1) {
            // Those of an optimizer are in its registry.
            let Some(native) = call.trim_start().strip_prefix('"') else { continue };
            let (native, rest) = native.split_once('"').unwrap();
            let (_, keys) = rest.split_once('&').unwrap();
            let options = match keys.strip_prefix('[') {
                Some(keys) => list(keys),
                None => {
                    let name = keys.split(')').next().unwrap();
                    let constant = text.split_once(&format!("const {name}: "));
                    let constant = constant.and_then(|(_, rest)| rest.split_once("= "));
                    let stated = constant.or_else(|| text.split_once(&format!("let {name} = ")));
                    list(stated.unwrap().1)
                }
            };
            assert!(!options.is_empty(), "{file}: no options of `{native}` were found");
            found.push((native.to_owned(), options));
        }
    }
    for info in xgbrun::train::optim::OPTIMIZERS {
        let options = info.options.iter().map(|(key, _)| (*key).to_owned());
        found.push((info.name.to_owned(), options.collect()));
    }
    found
}

#[test]
fn the_reference_lists_every_native_option_and_function() {
    let pages = files(REFERENCE, "md").iter().map(|page| read(page)).collect::<String>();
    let mut wanted = natives();
    assert!(wanted.len() > 25, "{wanted:?}");
    for file in files("stdlib", "rhai") {
        let module = file.rsplit('/').next().unwrap().trim_end_matches(".rhai").to_owned();
        let functions = read(&file);
        let functions = functions
            .lines()
            .filter_map(|l| l.strip_prefix("fn ")?.split_once('{'))
            .map(|(head, _)| head.trim().to_owned());
        wanted.extend(functions.map(|head| format!("`{module}::{head}`")));
    }
    wanted.retain(|call| !pages.contains(&format!("\n## {call}")));
    assert!(wanted.is_empty(), "{REFERENCE} lacks {wanted:?}");

    let options = options();
    assert!(options.len() > 10, "{options:?}");
    for (native, options) in options {
        // What words records is told with what reads them.
        let native = if native == "template" { "data::load" } else { &native };
        let of_native = |section: &&str| {
            let heading = section.lines().next().unwrap();
            [".", "`"].iter().any(|before| heading.contains(&format!("{before}{native}(")))
        };
        let told: String = pages.split("\n## ").filter(of_native).collect();
        let missing: Vec<_> =
            options.iter().filter(|key| !told.contains(&format!("`{key}`"))).collect();
        assert!(missing.is_empty(), "{REFERENCE} does not tell of {missing:?} of `{native}`");
    }
}
