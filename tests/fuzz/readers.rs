//! An input is a file, after a byte that says of which kind.
#![no_main]

mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::readers(bytes));
