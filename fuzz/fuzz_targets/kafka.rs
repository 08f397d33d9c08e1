//! See `esnode::fuzz::kafka`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esnode::fuzz::kafka(bytes));
