//! `[transforms]`: limits for all guests; and `[routes.transform]`: a guest.

use std::path::PathBuf;
use std::time::Duration;

use super::module::{ModuleSource, is_loopback};
use super::section::{Reading, Section};
use super::settings::{PullSettings, RegistrySettings, ShadowSettings, TransformHostSettings, TransformSettings};
use super::words::shorten;

/// Limits where a route has none of its own, as they are written.
pub(super) struct GuestLimits {
    call_timeout: String,
    max_memory: String,
    max_output: String,
    max_log_lines: u32,
    max_failures: u32,
}

/// The same, as values.
struct Limits {
    call_timeout: Duration,
    max_memory_bytes: usize,
    max_output_bytes: usize,
    max_log_lines: u32,
    max_failures: u32,
}

/// Reads what all guests share.
pub(super) fn read(root: &mut Section<'_>, reading: &Reading) -> (TransformHostSettings, GuestLimits) {
    let mut section = root.section("transforms");
    let cache_dir = section.optional_text("cache_dir", "\"/var/cache/streamsync/modules\"");
    let max_instances = section.count("max_instances", 256, 1..=10_000);
    let built_in = GuestLimits {
        call_timeout: "5s".into(),
        max_memory: "256MiB".into(),
        max_output: "64MiB".into(),
        max_log_lines: 100,
        max_failures: 100,
    };
    let Limits { call_timeout, max_memory_bytes, max_output_bytes, max_log_lines, max_failures } = limits(&mut section, &built_in);
    let watch = Some(section.duration("watch", "1s", "0ms"..="1d")).filter(|every| !every.is_zero());
    let timeout = section.duration("pull_timeout", "2m", "1s"..="1h");
    let registries = section.named_sections("registries").into_iter().map(|(name, section)| registry(name, section)).collect();
    section.finish();
    let cache_dir = match cache_dir {
        Some(dir) if dir.is_empty() => None,
        Some(dir) => Some(reading.directory.join(dir)),
        None => default_cache(reading),
    };
    let limits = GuestLimits {
        call_timeout: super::units::show_duration(call_timeout),
        max_memory: super::units::show_size(max_memory_bytes as u64),
        max_output: super::units::show_size(max_output_bytes as u64),
        max_log_lines,
        max_failures,
    };
    (TransformHostSettings { cache_dir, max_instances, watch, pulls: PullSettings { timeout, registries } }, limits)
}

fn registry(name: String, mut section: Section<'_>) -> RegistrySettings {
    let user = section.optional_text("user", "\"team\"");
    let password = section.secret("password", "\"${file:/run/secrets/registry}\"");
    let is_named = section.has("plain_http");
    let plain_http = section.flag("plain_http");
    let credentials = match (user, password) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        (Some(_), None) => {
            section.fault("user", "has no password", "add password = \"${file:/run/secrets/registry}\", or leave both away");
            None
        }
        (None, Some(_)) => {
            section.fault("password", "has no user", "add user; a registry that takes a token says which user goes with it");
            None
        }
    };
    section.finish();
    // Nobody listens between a process and its own machine.
    let plain_http = if is_named { plain_http } else { is_loopback(&name) };
    RegistrySettings { name, credentials, plain_http }
}

fn limits(section: &mut Section<'_>, default: &GuestLimits) -> Limits {
    Limits {
        call_timeout: section.duration("call_timeout", &default.call_timeout, "10ms"..="1m"),
        max_memory_bytes: section.size("max_memory", &default.max_memory, "1MiB"..="4GiB"),
        max_output_bytes: section.size("max_output", &default.max_output, "64KiB"..="1GiB"),
        max_log_lines: section.count("max_log_lines", default.max_log_lines, 0..=100_000),
        max_failures: section.count("max_failures_in_a_row", default.max_failures, 0..=u32::MAX),
    }
}

fn default_cache(reading: &Reading) -> Option<PathBuf> {
    let directory = |name: &str| reading.variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")))?;
    Some(cache.join("streamsync").join("modules"))
}

/// Reads a route's guest.
pub(super) fn read_guest(route: &mut Section<'_>, name: &str, default: &GuestLimits) -> TransformSettings {
    let mut section = route.section("transform");
    let mut transform = guest(&mut section, name, default);
    let is_shadowed = section.has("shadow");
    let mut shadow = section.section("shadow");
    if is_shadowed {
        let second = guest(&mut shadow, name, default);
        let canary_percent = shadow.count("canary_percent", 0, 0..=100);
        transform.shadow = Some(Box::new(ShadowSettings { transform: second, canary_percent }));
    }
    shadow.finish();
    section.finish();
    transform
}

fn guest(section: &mut Section<'_>, route: &str, default: &GuestLimits) -> TransformSettings {
    let module = section.required_text("module", "\"transforms/orders.wasm\"");
    let module = module.and_then(|module| {
        let parsed = ModuleSource::parse(&module, &section.reading.directory, route);
        parsed.map_err(|(message, remedy)| section.fault("module", message, remedy)).ok()
    });
    if let Some(module) = module.as_ref().and_then(ModuleSource::file) {
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
    let signature_key = section.optional_text("signature_key", "\"cosign.pub\"").map(|key| section.reading.directory.join(key));
    if let Some(Err(error)) = signature_key.as_ref().map(std::fs::metadata) {
        section.fault("signature_key", format!("the key can't be read: {error}"), "name the PEM file of a public key, cosign.pub");
    }
    let config = section.json("config").to_string();
    let Limits { call_timeout, max_memory_bytes, max_output_bytes, max_log_lines, max_failures } = limits(section, default);
    TransformSettings {
        module: module.unwrap_or_default(),
        sha256: sha256.map(|digest| digest.to_ascii_lowercase()),
        signature_key,
        config,
        call_timeout,
        max_memory_bytes,
        max_output_bytes,
        max_log_lines: max_log_lines as usize,
        max_failures,
        shadow: None,
    }
}
