//! How much a run may use: the script that drives it, and the natives that it calls.

/// The bounds of one run; `--limit-NAME` on the command line sets each.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Script operations (natives count as one) since the last fit, evaluation, generation or load:
    /// about a second of pure script.
    pub operations: u64,
    /// Processor seconds of the script itself in the same stretch.
    pub script_seconds: f64,
    /// Functions called within functions.
    pub calls: usize,
    /// Nesting of expressions and blocks.
    pub nesting: usize,
    /// Bytes in a string.
    pub string: usize,
    /// Elements in an array, those of arrays inside it included.
    pub array: usize,
    /// Entries in a map, those of maps inside it included.
    pub map: usize,
    /// Variables in scope at once.
    pub variables: usize,
    /// Functions that the recipe and each of its modules may define.
    pub functions: usize,
    /// Modules imported.
    pub modules: usize,
    /// MiB that the script's values hold together; what natives hold (models, boosters, data) is
    /// not counted.
    pub memory: usize,
    /// Models that a run may load or make.
    pub models: usize,
    /// Parameters of a model that `model::create` makes, in millions.
    pub created: usize,
    /// MiB of the journal, to which each call of a native adds a line.
    pub journal: usize,
    /// Wall time of the run: a week.
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations: 10_000_000,
            script_seconds: 1.5,
            calls: 64,
            nesting: 64,
            string: 1 << 20,
            array: 100_000,
            map: 10_000,
            variables: 1_000,
            functions: 1_000,
            modules: 100,
            memory: 160,
            models: 16,
            created: 50,
            journal: 1024,
            seconds: 7 * 24 * 3600,
        }
    }
}

impl Limits {
    /// Without an end to the time.
    pub fn endless() -> Self {
        Self { seconds: u64::MAX, ..Self::default() }
    }
}
