//! Tokenizer files: those that disagree, newer kinds, `tokenizer.model`.
