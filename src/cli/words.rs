//! The first word of a command line: a command, or a recipe.

/// Names of commands, as the first page lists them.
pub const NAMES: [&str; 11] =
    ["run", "new", "check", "plan", "ask", "eval", "export", "report", "api", "completions", "man"];

/// The command that shows the page of another.
pub const HELP: &str = "help";

/// Whether a first word is the path of a recipe.
pub fn is_recipe(word: &str) -> bool {
    word.ends_with(".rhai") || word.contains('/')
}

/// Whether a first word is a command.
pub fn is_command(word: &str) -> bool {
    word == HELP || NAMES.contains(&word)
}
