//! `cargo xtask fuzz decode_update`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| causeway_codec_tests::targets::decode_update(data));
