//! `[transforms]`: limits for all guests; and `[routes.transform]`: a guest.

use std::path::PathBuf;
use std::time::Duration;

use super::section::{Reading, Section};
use super::settings::{TransformHostSettings, TransformSettings};
use super::words::shorten;

/// Limits where a route has none of its own, as they are written.
pub(super) struct GuestLimits {
    call_timeout: String,
    max_memory: String,
    max_output: String,
    max_log_lines: u32,
}

/// Reads what all guests share.
pub(super) fn read(root: &mut Section<'_>, reading: &Reading) -> (TransformHostSettings, GuestLimits) {
    let mut section = root.section("transforms");
    let cache_dir = section.optional_text("cache_dir", "\"/var/cache/streamsync/modules\"");
    let max_instances = section.count("max_instances", 256, 1..=10_000);
    let built_in = GuestLimits { call_timeout: "5s".into(), max_memory: "256MiB".into(), max_output: "64MiB".into(), max_log_lines: 100 };
    let (call_timeout, max_memory, max_output, max_log_lines) = limits(&mut section, &built_in);
    section.finish();
    let cache_dir = match cache_dir {
        Some(dir) if dir.is_empty() => None,
        Some(dir) => Some(reading.directory.join(dir)),
        None => default_cache(reading),
    };
    let limits = GuestLimits {
        call_timeout: super::units::show_duration(call_timeout),
        max_memory: super::units::show_size(max_memory as u64),
        max_output: super::units::show_size(max_output as u64),
        max_log_lines,
    };
    (TransformHostSettings { cache_dir, max_instances }, limits)
}

fn limits(section: &mut Section<'_>, default: &GuestLimits) -> (Duration, usize, usize, u32) {
    (
        section.duration("call_timeout", &default.call_timeout, "10ms"..="1m"),
        section.size("max_memory", &default.max_memory, "1MiB"..="4GiB"),
        section.size("max_output", &default.max_output, "64KiB"..="1GiB"),
        section.count("max_log_lines", default.max_log_lines, 0..=100_000),
    )
}

fn default_cache(reading: &Reading) -> Option<PathBuf> {
    let directory = |name: &str| reading.variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")))?;
    Some(cache.join("streamsync").join("modules"))
}

/// Reads a route's guest.
pub(super) fn read_guest(route: &mut Section<'_>, default: &GuestLimits) -> TransformSettings {
    let mut section = route.section("transform");
    let module = section.required_text("module", "\"transforms/orders.wasm\"").map(|file| section.reading.directory.join(file));
    if let Some(module) = &module {
        match std::fs::metadata(module) {
            Ok(found) if found.is_file() => {}
            Ok(_) => section.fault("module", format!("{} is no file", module.display()), "name the component's .wasm file"),
            Err(error) => {
                let remedy = "build the transform, or correct the path: it starts at the configuration file's directory";
                section.fault("module", format!("{} can't be read: {error}", module.display()), remedy);
            }
        }
    }
    let sha256 = section.optional_text("sha256", "\"<64 hexadecimal digits>\"");
    if let Some(digest) = sha256.as_ref().filter(|d| d.len() != 64 || !d.bytes().all(|b| b.is_ascii_hexdigit())) {
        section.fault("sha256", format!("{} is no SHA-256", shorten(digest)), "write the 64 hexadecimal digits that sha256sum prints");
    }
    let config = section.json("config").to_string();
    let (call_timeout, max_memory_bytes, max_output_bytes, max_log_lines) = limits(&mut section, default);
    section.finish();
    TransformSettings {
        module: module.unwrap_or_default(),
        sha256: sha256.map(|digest| digest.to_ascii_lowercase()),
        config,
        call_timeout,
        max_memory_bytes,
        max_output_bytes,
        max_log_lines: max_log_lines as usize,
    }
}
