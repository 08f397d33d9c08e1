//! See `esnode::fuzz::segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esnode::fuzz::segment(bytes));
