//! Keys of a record: used, known to say nothing, or refused.
