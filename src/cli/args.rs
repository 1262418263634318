//! The command line as it is written.

use std::path::PathBuf;

use clap::Parser;

use crate::host::Limits;

/// Fine-tune language models by gradient boosting, driven by scripts.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 110)]
pub struct Args {
    /// The recipe to run: a path that ends in `.rhai` or holds a `/`
    pub recipe: PathBuf,
    /// Set a parameter that the recipe declares with `params`
    #[arg(short, value_name = "NAME=VALUE", value_parser = parameter)]
    pub param: Vec<(String, String)>,
    /// Folder to write the run to, new or empty [default: runs/NAME-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Storage type of weights: auto, f32 or bf16
    #[arg(long, default_value = "auto")]
    pub dtype: String,
    /// Threads to compute with [default: the machine's cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: Option<u32>,
    /// Seed of all chance in the run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Bounds on what a recipe may use.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits on the recipe")]
pub struct LimitArgs {
    /// Script operations
    #[arg(long = "limit-operations", value_name = "N", default_value_t = Limits::default().operations)]
    operations: u64,
    /// Wall time in seconds
    #[arg(long = "limit-seconds", value_name = "N", default_value_t = Limits::default().seconds)]
    seconds: u64,
    /// Functions called within functions
    #[arg(long = "limit-calls", value_name = "N", default_value_t = Limits::default().calls)]
    calls: usize,
    /// Nesting of expressions and blocks
    #[arg(long = "limit-nesting", value_name = "N", default_value_t = Limits::default().nesting)]
    nesting: usize,
    /// Bytes in a string
    #[arg(long = "limit-string", value_name = "N", default_value_t = Limits::default().string)]
    string: usize,
    /// Elements in an array
    #[arg(long = "limit-array", value_name = "N", default_value_t = Limits::default().array)]
    array: usize,
    /// Entries in a map
    #[arg(long = "limit-map", value_name = "N", default_value_t = Limits::default().map)]
    map: usize,
    /// Variables in scope at once
    #[arg(long = "limit-variables", value_name = "N", default_value_t = Limits::default().variables)]
    variables: usize,
    /// Functions defined
    #[arg(long = "limit-functions", value_name = "N", default_value_t = Limits::default().functions)]
    functions: usize,
    /// Modules imported
    #[arg(long = "limit-modules", value_name = "N", default_value_t = Limits::default().modules)]
    modules: usize,
}

impl From<LimitArgs> for Limits {
    fn from(a: LimitArgs) -> Self {
        let LimitArgs { operations, seconds, calls, nesting, string, array, map, variables, functions, modules } = a;
        Self { operations, seconds, calls, nesting, string, array, map, variables, functions, modules }
    }
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("write it as NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn limits_default_to_those_of_the_host() {
        assert_eq!(Limits::from(Args::parse_from(["xgbrun", "a.rhai"]).limits), Limits::default());
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(parameter("model=a=b"), Ok(("model".into(), "a=b".into())));
        assert!(parameter("model").is_err() && parameter("=x").is_err());
    }
}
