//! Who knows whom: the table in docs/architecture.md against the paths that the source names, its
//! pictures against the table, and files against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files that stand for the whole crate.
const TABLE_OF_CONTENTS: &str = "lib";
/// The one part that may name the script engine.
const SCRIPT_HOST: &str = "host";

/// A part of the crate (a folder or file directly under src) and those it knows.
type Edges = BTreeMap<String, BTreeSet<String>>;

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(home().join("docs/architecture.md")).unwrap()
}

/// The rows of the table, top to bottom.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let text = page();
    let names =
        |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = text
        .lines()
        .skip_while(|l| !l.starts_with("| part |"))
        .skip(2)
        .take_while(|l| l.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 3, "{row}");
        (names(cells[0]).pop().unwrap(), names(cells[2]).into_iter().collect())
    })
    .collect()
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The code of a file without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|l| l.split_once("//").map_or(l, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n")
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first words after each `prefix` in `code`: one, or all of a group in braces.
fn after(code: &str, prefix: &str) -> Vec<String> {
    let mut found = vec![];
    for (at, _) in code.match_indices(prefix) {
        // `$crate` in a macro, and words that end like the prefix.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(word(rest).to_owned());
            continue;
        };
        let (mut depth, mut start) = (1, true);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                c if start && depth == 1 && !c.is_whitespace() => {
                    found.push(word(&group[i..]).to_owned());
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// What the source does, and the parts that name the script engine.
fn found() -> (Edges, BTreeSet<String>) {
    let src = home().join("src");
    let mut files = vec![];
    sources(&src, &mut files);
    let part = |path: &Path| {
        path.strip_prefix(&src)
            .unwrap()
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned()
    };
    let parts: BTreeSet<String> =
        files.iter().map(|f| part(f)).filter(|p| p != TABLE_OF_CONTENTS).collect();
    let (mut edges, mut engine) = (Edges::new(), BTreeSet::new());
    for file in &files {
        let own = part(file);
        if own == TABLE_OF_CONTENTS {
            continue;
        }
        let code = code(file);
        // As many `super` as the file lies deep lead to the crate itself.
        let within = file.strip_prefix(&src).unwrap().with_extension("");
        let depth = within.iter().filter(|p| *p != "mod").count();
        let known = edges.entry(own.clone()).or_default();
        for prefix in ["crate::".to_owned(), "xgbrun::".to_owned(), "super::".repeat(depth)] {
            for name in after(&code, &prefix) {
                let name = if name.starts_with("bail_") { "error".to_owned() } else { name };
                if name != own && parts.contains(&name) {
                    known.insert(name);
                }
            }
        }
        if ["rhai::", "use rhai", "extern crate rhai"].iter().any(|p| !after(&code, p).is_empty()) {
            engine.insert(own);
        }
    }
    (edges, engine)
}

#[test]
fn the_table_says_who_knows_whom() {
    let table = table();
    let (found, _) = found();
    let mut wrong = vec![];
    for (i, (part, allowed)) in table.iter().enumerate() {
        let Some(known) = found.get(part) else {
            wrong.push(format!("`{part}` has a row but is not under src"));
            continue;
        };
        wrong.extend(
            known
                .difference(allowed)
                .map(|k| format!("`{part}` knows `{k}`, which its row does not allow")),
        );
        wrong.extend(
            allowed.difference(known).map(|k| format!("`{part}` may know `{k}` but does not")),
        );
        let above = |k: &&String| !table[i + 1..].iter().any(|(below, _)| below == *k);
        wrong.extend(
            allowed
                .iter()
                .filter(above)
                .map(|k| format!("`{part}` may know `{k}`, which has no row below it")),
        );
    }
    let listed: BTreeSet<&String> = table.iter().map(|(part, _)| part).collect();
    wrong.extend(found.keys().filter(|p| !listed.contains(p)).map(|p| format!("`{p}` has no row")));
    assert!(wrong.is_empty(), "docs/architecture.md and src disagree:\n{}", wrong.join("\n"));
}

/// The first fenced block below a heading.
fn picture(heading: &str) -> String {
    let text = page();
    let below = text.lines().skip_while(|l| *l != heading);
    let block = below.skip_while(|l| !l.starts_with("```")).skip(1);
    block.take_while(|l| *l != "```").collect::<Vec<_>>().join("\n")
}

/// The part of the crate that a path below src lies in.
fn part_of(path: &str) -> String {
    path.split('/').next().unwrap().to_owned()
}

/// What is wrong with a way that is drawn from top to bottom: stops are paths below src at the
/// beginning of a line, with an arrow before each; one line leads back to the top.
fn wrong_way(drawn: &str, rows: &Edges) -> Vec<String> {
    let firsts = || drawn.lines().filter_map(|line| line.split_whitespace().next());
    let stops: Vec<&str> = firsts().filter(|word| word.contains('/')).collect();
    let mut wrong = vec![];
    for stop in &stops {
        if !home().join("src").join(stop).exists() {
            wrong.push(format!("`{stop}` is not under src"));
        }
    }
    for pair in stops.windows(2) {
        let [from, to] = [pair[0], pair[1]].map(part_of);
        if from != to && !rows.get(&from).is_some_and(|known| known.contains(&to)) {
            wrong.push(format!("`{from}` does not know `{to}`"));
        }
    }
    if stops.len() > 8 {
        wrong.push(format!("{} stops", stops.len()));
    }
    // Each line is a stop or an arrow, in turns, below the line of the script.
    let turns = firsts().skip(1).enumerate();
    let odd =
        turns.filter(|(i, word)| if i % 2 == 0 { *word != "▼" } else { !stops.contains(word) });
    wrong.extend(odd.map(|(_, word)| format!("`{word}` is neither a stop nor an arrow")));
    for mark in ['◄', '┐', '┘'] {
        if drawn.matches(mark).count() != 1 {
            wrong.push("not one way back".to_owned());
        }
    }
    wrong
}

#[test]
fn the_way_of_a_fit_goes_down_the_table() {
    let rows: Edges = table().into_iter().collect();
    let way = picture("## The way of `booster.fit`");
    assert_eq!(wrong_way(&way, &rows), [""; 0], "{way}");
    assert!(way.contains("\nhost/bind/booster.rs ") && way.contains("\nops/cpu/gemm.rs "), "{way}");
    // What the test is for.
    for (old, new, want) in [
        ("train/fit.rs", "train/fits.rs", "`train/fits.rs` is not under src"),
        ("session/fit.rs", "cli/run.rs", "`host` does not know `cli`"),
        ("ops/linear ", "ops/linear\n   ▼\nops/rope", "9 stops"),
        ("   ▼", "    ", "is neither a stop nor an arrow"),
        ("◄", "◄◄", "not one way back"),
    ] {
        let found = wrong_way(&way.replacen(old, new, 1), &rows);
        assert!(found.iter().any(|wrong| wrong.contains(want)), "{new}: {found:?}");
    }
}

/// What is wrong with a flowchart of data: nodes without a text of their own are parts, and of two
/// that an arrow joins one knows the other.
fn wrong_flow(drawn: &str, rows: &Edges) -> Vec<String> {
    let arrows = drawn.lines().filter_map(|line| {
        let (from, to) = line.rsplit_once("--> ")?;
        let (from, _) = from.split_once(" -- ").unwrap_or((from, ""));
        Some([from.trim(), to.trim()])
    });
    let mut wrong = vec![];
    for nodes in arrows {
        if nodes.iter().any(|node| node.contains('[')) {
            continue;
        }
        for node in nodes.iter().filter(|node| !rows.contains_key(**node)) {
            wrong.push(format!("`{node}` is no part"));
        }
        let [from, to] = nodes;
        let knows = |a: &str, b: &str| rows.get(a).is_some_and(|known| known.contains(b));
        if !knows(from, to) && !knows(to, from) {
            wrong.push(format!("`{from}` and `{to}` do not know each other"));
        }
    }
    wrong
}

#[test]
fn data_go_between_parts_that_know_each_other() {
    let rows: Edges = table().into_iter().collect();
    let flow = picture("## How a run goes");
    assert!(flow.matches("-->").count() > 10, "{flow}");
    assert_eq!(wrong_flow(&flow, &rows), [""; 0]);
    for (arrow, want) in [
        ("nobody --> cli", "`nobody` is no part"),
        ("builtin -- \"x\" --> data", "`builtin` and `data` do not know each other"),
    ] {
        assert!(wrong_flow(arrow, &rows).iter().any(|wrong| wrong == want), "{arrow}");
    }
}

/// A file as a module: the names that lead to it from the crate.
type Module = Vec<String>;

/// The modules of the crate with their code, comments and tests aside.
fn modules() -> BTreeMap<Module, String> {
    let src = home().join("src");
    let mut files = vec![];
    sources(&src, &mut files);
    let module = |file: &PathBuf| {
        let path = file.strip_prefix(&src).unwrap().with_extension("");
        let names = path.iter().map(|name| name.to_str().unwrap().to_owned());
        let names: Module = names.filter(|name| name != "mod").collect();
        let last = names.last()?;
        let apart = ["lib", "main", "tests", "testing"].contains(&last.as_str());
        let code = code(file);
        let code = code.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
        (!apart).then_some((names, code))
    };
    files.iter().filter_map(module).collect()
}

/// What a path or the tree of a `use` names, each by the names behind `before`.
fn leaves(text: &str, before: &[String], out: &mut Vec<Module>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (i, c) in group.char_indices() {
            let ends = depth == 0 && (c == ',' || c == '}');
            if ends && !group[start..i].trim().is_empty() {
                leaves(&group[start..i], before, out);
            }
            match c {
                '}' if depth == 0 => return,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => start = i + 1,
                _ => {}
            }
        }
        return;
    }
    let name = word(text);
    let path: Module = before.iter().cloned().chain([name.to_owned()]).collect();
    match text[name.len()..].strip_prefix("::") {
        Some(rest) => leaves(rest, &path, out),
        None => out.push(path),
    }
}

/// The modules that the code of `own` names, those above and below it aside.
fn named(own: &Module, code: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut found = vec![];
    for (at, start) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        // Words that end like this, `$crate` in a macro, and a further `super` of the same path.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$' || c == ':') {
            continue;
        }
        let (mut rest, mut above) = (&code[at..], own.clone());
        if start == "crate::" {
            (rest, above) = (&rest[start.len()..], vec![]);
        }
        while let Some(behind) = rest.strip_prefix("super::") {
            above.pop();
            rest = behind;
        }
        leaves(rest, &above, &mut found);
    }
    let module = |path: Module| {
        (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|m| all.contains_key(m))
    };
    let related = |m: &Module| m.starts_with(own) || own.starts_with(m);
    found.into_iter().filter_map(module).filter(|m| !related(m)).collect()
}

/// A cycle among modules, if there is one.
fn cycle(edges: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<&Module>> {
    fn visit<'a>(
        at: &'a Module,
        edges: &'a BTreeMap<Module, BTreeSet<Module>>,
        way: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
    ) -> bool {
        if let Some(first) = way.iter().position(|m| *m == at) {
            way.drain(..first);
            return true;
        }
        if done.contains(at) {
            return false;
        }
        way.push(at);
        if edges.get(at).into_iter().flatten().any(|next| visit(next, edges, way, done)) {
            return true;
        }
        way.pop();
        done.insert(at);
        false
    }
    let (mut way, mut done) = (vec![], BTreeSet::new());
    edges.keys().any(|module| visit(module, edges, &mut way, &mut done)).then_some(way)
}

#[test]
fn files_know_each_other_in_one_direction() {
    let all = modules();
    let known = |(own, code): (&Module, &String)| (own.clone(), named(own, code, &all));
    let edges: BTreeMap<Module, BTreeSet<Module>> = all.iter().map(known).collect();
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 500);
    let found = cycle(&edges)
        .map(|way| way.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" -> "));
    assert_eq!(found, None, "these files know each other");
}

#[test]
fn a_cycle_of_files_is_found() {
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    let all: BTreeMap<Module, String> = [
        ("a", "pub mod x;"),
        ("a::x", "use super::y::{Y, deep::{Z}}; use super::A;"),
        ("a::y", "fn f() { crate::a::z::g() }"),
        ("a::z", "use super::super::a::x;"),
    ]
    .map(|(path, code)| (module(path), code.to_owned()))
    .into();
    let edges: BTreeMap<Module, BTreeSet<Module>> =
        all.iter().map(|(own, code)| (own.clone(), named(own, code, &all))).collect();
    assert_eq!(edges[&module("a")], BTreeSet::new());
    assert_eq!(edges[&module("a::x")], BTreeSet::from([module("a::y")]));
    let way = cycle(&edges).unwrap();
    assert_eq!(way, [&module("a::x"), &module("a::y"), &module("a::z")]);
}

#[test]
fn the_script_engine_is_named_in_one_folder() {
    let (_, engine) = found();
    assert_eq!(engine, BTreeSet::from([SCRIPT_HOST.to_owned()]));
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let code = "use crate::{device, error::{Error, nearest},\n    seed};\n\
                let x = crate::ops::slice(y); $crate::run; my_crate::cli";
    assert_eq!(after(code, "crate::"), ["device", "error", "seed", "ops"]);
    assert_eq!(after("super::super::data::x", "super::super::"), ["data"]);
}
