//! The program end to end, through its command line, on a tiny model and on real ones where they
//! are there.

#[path = "../common/mod.rs"]
mod common;

mod ask;
mod bad_input;
mod damage;
mod dense;
mod ensemble;
mod export;
mod harness;
mod head;
mod interrupts;
mod masked;
mod new;
mod peer;
mod recipe;
mod results;
mod resume;
mod rounding;
mod sets;
mod stopped_recipes;
mod terminal;
mod training;
mod variants;
mod wording;
