//! See `esnode::fuzz::admin`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esnode::fuzz::admin(bytes));
