//! What went wrong, said for people, with the exit code that it means.
//!
//! Functions return [`anyhow::Result`]; where the cause is known to be the user's input, a usage
//! mistake or an interrupt, the error in the chain is an [`Error`] with its [`Class`].
//! Anything else counts as [`Class::Run`].

use std::fmt;

/// Why the program ends, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The run failed: NaN, memory, disk, device.
    Run = 1,
    /// Usage, recipe or limit.
    Usage = 2,
    /// Data or model: missing, malformed, or of a kind that is not known.
    Data = 3,
    /// A threshold or a plan was not met.
    Threshold = 4,
    /// Interrupted; the run can be resumed.
    Interrupted = 130,
}

impl Class {
    /// The class of an exit code.
    pub fn of_code(code: u8) -> Option<Self> {
        [Self::Run, Self::Usage, Self::Data, Self::Threshold, Self::Interrupted]
            .into_iter()
            .find(|class| class.code() == code)
    }

    /// The process exit code of this class.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// An error with its class and, where there is one, a hint at what would be right.
#[derive(Clone, Debug)]
pub struct Error {
    pub class: Class,
    pub message: String,
    pub hint: Option<String>,
    /// Nothing that a script may catch and go on from.
    pub fatal: bool,
}

impl Error {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None, fatal: false }
    }

    /// `error`, said in the same words, as one that no script may catch.
    pub fn fatal(error: &anyhow::Error) -> Self {
        Self { fatal: true, ..Self::from(error) }
    }

    pub fn run(message: impl Into<String>) -> Self {
        Self::new(Class::Run, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }

    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Class::Data, message)
    }

    /// Adds what would be right, printed on a line of its own.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<&anyhow::Error> for Error {
    /// With the whole chain as its message.
    fn from(error: &anyhow::Error) -> Self {
        Self {
            class: class_of(error),
            message: format!("{error:#}"),
            hint: hint_of(error).map(str::to_owned),
            fatal: false,
        }
    }
}

/// The class of an error: that of the first [`Error`] in its chain, else [`Class::Run`].
pub fn class_of(error: &anyhow::Error) -> Class {
    error.chain().find_map(|e| e.downcast_ref::<Error>()).map_or(Class::Run, |e| e.class)
}

/// The hint of an error, if the first [`Error`] in its chain has one, or where a GPU has no memory
/// left.
pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
    match error.chain().find_map(|e| e.downcast_ref::<Error>()) {
        Some(known) => known.hint.as_deref(),
        None => is_out_of_memory(&format!("{error:#}")).then_some(OUT_OF_MEMORY),
    }
}

const OUT_OF_MEMORY: &str = "the GPU has no memory left: take a smaller `batch`, or \
                             `gradient_checkpointing: \"on\"`";

/// Whether what CUDA, cuBLAS or candle says of a failure is that a GPU has no memory left.
pub fn is_out_of_memory(said: &str) -> bool {
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"]
        .iter()
        .any(|code| said.contains(code))
}

/// An [`Error`]: its class, a message as for [`format!`] and, behind a semicolon, what would be
/// right.
///
/// `error!(Data, "`{path}` is empty")`,
/// `error!(Usage, "rank {rank} is too high"; hint: "from 1 to {}", highest)`.
macro_rules! error {
    ($class:ident, $message:literal $(, $arg:expr)* ; hint: $hint:literal $(, $of:expr)* $(,)?) => {
        $crate::error::Error::new(
            $crate::error::Class::$class,
            format!($message $(, $arg)*),
        )
        .hint(format!($hint $(, $of)*))
    };
    ($class:ident, $message:literal $(, $arg:expr)* $(,)?) => {
        $crate::error::Error::new($crate::error::Class::$class, format!($message $(, $arg)*))
    };
}

/// Ends the function with an error, said as to [`error!`].
macro_rules! bail {
    ($($said:tt)*) => { return Err($crate::error::error!($($said)*).into()) };
}

pub(crate) use {bail, error};

/// The beginning of a text that may be anything, for messages.
pub fn clip(text: &str) -> String {
    if text.chars().count() <= 40 {
        text.to_owned()
    } else {
        text.chars().take(40).chain(['…']).collect()
    }
}

/// Behind one of `count` things, how many there are beside it.
pub fn and_more(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}

/// The name in `known` nearest to `word` by edit distance (optimal string alignment), where it is
/// near enough to be a slip (at most a third of its letters differ; a transposition counts once).
/// Of equals, one in which letters were merely left out comes first.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer ones are no slips of the pen.
    const LONGEST: usize = 64;
    let limit = (word.chars().take(LONGEST + 1).count() / 3).max(1);
    if word.chars().nth(LONGEST).is_some() {
        return None;
    }
    let near = known
        .into_iter()
        .filter(|k| k.len() <= 4 * LONGEST)
        .map(|k| (strsim::osa_distance(word, k), k))
        .filter(|(d, _)| *d <= limit);
    near.min_by_key(|(d, k)| (*d, !has_in_order(k, word))).map(|(_, k)| k)
}

/// What a message says of a slip, behind the rest: the nearest of `known`, or nothing.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// Whether `word` is what is left of `name` without some of its letters.
fn has_in_order(name: &str, word: &str) -> bool {
    let mut letters = name.chars();
    word.chars().all(|letter| letters.any(|l| l == letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_survives_context() {
        let error = anyhow::Error::from(Error::data("cut short").hint("download it again"))
            .context("model.gguf");
        assert_eq!(class_of(&error), Class::Data);
        assert_eq!(hint_of(&error), Some("download it again"));
        assert_eq!(class_of(&anyhow::anyhow!("unforeseen")), Class::Run);
        let full = anyhow::anyhow!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert!(hint_of(&full.context("load")).unwrap().starts_with("the GPU has no memory left"));
        assert_eq!(hint_of(&anyhow::anyhow!("unforeseen")), None);
    }

    #[test]
    fn nearest_name_forgives_a_slip_only() {
        let known = ["q_proj", "k_proj", "down_proj"];
        assert_eq!(nearest("q_poj", known), Some("q_proj"));
        assert_eq!(nearest("donw_proj", known), Some("down_proj"));
        assert_eq!(nearest("embedding", known), None);
    }
}
