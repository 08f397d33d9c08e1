//! See `esnode::fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esnode::fuzz::config(bytes));
