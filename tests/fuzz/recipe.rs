//! An input is a recipe's text.
#![no_main]

mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::recipe(bytes));
