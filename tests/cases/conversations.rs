//! Conversations: their shapes in files, and templates that rewrite what stands before.
