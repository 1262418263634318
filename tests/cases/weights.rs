//! Weights: tied heads, missing prefixes, other types, more layers than the config has.
