//! `cargo xtask fuzz speaker`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| causeway_codec_tests::speaker::speaker(data));
