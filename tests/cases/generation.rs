//! Generated text: the space in front of it, and what ends it.
