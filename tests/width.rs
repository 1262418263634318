//! No line of code, scripts or settings is longer than 100 columns.

use std::fs;
use std::path::Path;

/// Characters a line may have.
const COLUMNS: usize = 100;
/// What is looked at, by ending.
const ENDINGS: [&str; 5] = ["py", "rhai", "rs", "sh", "toml"];
/// Folders that hold no source of ours: what is built, what runs wrote, data beside the checkout.
const PASSED_OVER: [&str; 3] = ["target", "runs", "shared"];
/// Files that may have longer lines, by how their paths begin, and why.
const EXEMPT: [(&str, &str); 1] =
    [("tests/hostile/", "attacks whose long lines are a part of what is tried")];

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Paths of all files in `folder` that are looked at, relative to the repository.
fn sources(folder: &Path, out: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') || PASSED_OVER.contains(&name.as_str()) {
            continue;
        }
        let path = entry.path();
        // Links lead to what lies elsewhere.
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            sources(&path, out);
        } else if kind.is_file()
            && path.extension().is_some_and(|e| ENDINGS.iter().any(|ending| e == *ending))
        {
            out.push(path.strip_prefix(home()).unwrap().display().to_string());
        }
    }
}

/// Numbers of the lines of a file that are too long, with their widths.
fn long_lines(path: &str) -> Vec<(usize, usize)> {
    let text = fs::read_to_string(home().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let widths = text.lines().map(|line| line.chars().count()).enumerate();
    widths.filter(|(_, width)| *width > COLUMNS).map(|(i, width)| (i + 1, width)).collect()
}

#[test]
fn no_line_is_longer_than_a_hundred_columns() {
    let mut files = vec![];
    sources(home(), &mut files);
    files.sort();
    for ending in ENDINGS {
        assert!(files.iter().any(|f| f.ends_with(&format!(".{ending}"))), "no .{ending} is found");
    }
    let mut wrong = vec![];
    let mut needed = [false; EXEMPT.len()];
    for file in &files {
        let lines = long_lines(file);
        match EXEMPT.iter().position(|(begin, _)| file.starts_with(begin)) {
            Some(i) => needed[i] |= !lines.is_empty(),
            None => wrong.extend(
                lines.iter().map(|(line, width)| format!("{file}:{line}: {width} columns")),
            ),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for ((begin, why), needed) in EXEMPT.iter().zip(needed) {
        assert!(needed, "no line below {begin} is long any more: {why}");
    }
}
