//! `cargo +nightly fuzz run decode_message`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| causeway_codec_tests::targets::decode_message(data));
