//! Prompt and answer as one text, under tokenizers that put a space before a text.
