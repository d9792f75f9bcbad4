//! All targets in one program; `STREAMSYNC_FUZZ_TARGET` names the one that runs. `cargo xtask fuzz` builds and starts it.
#![no_main]
#![allow(unsafe_code, reason = "the macro names the function that libFuzzer calls")]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use streamsync_fuzz::{Target, target};

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("STREAMSYNC_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| unreachable!("STREAMSYNC_FUZZ_TARGET names no target: {name:?}"))
    })
}

fuzz_target!(|data: &[u8]| chosen()(data));
