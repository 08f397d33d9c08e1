//! See `esnode::fuzz::command`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esnode::fuzz::command(bytes));
