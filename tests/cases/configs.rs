//! Keys of `config.json`: read, known to say nothing, or refused.
