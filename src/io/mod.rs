//! What the disk is to hold whole or not at all.

pub mod atomic;
