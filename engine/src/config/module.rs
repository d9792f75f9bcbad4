//! Where a module is from: a file, or an OCI registry.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use oci_client::Reference;

use super::words::shorten;

const OCI: &str = "oci://";
const SHA256: &str = "sha256:";
const HEX_DIGITS: usize = 64;

/// Where a module is from.
#[derive(Clone, PartialEq, Eq)]
pub enum ModuleSource {
    /// A file.
    File(PathBuf),
    /// An artifact of an OCI registry.
    Oci(OciReference),
}

/// A module in an OCI registry. It is what the digest names, whatever the registry answers.
#[derive(Clone, PartialEq, Eq)]
pub struct OciReference {
    /// Host, and port where it is not that of TLS.
    pub registry: String,
    /// The path in it.
    pub repository: String,
    /// For whoever reads the configuration; not looked at.
    pub tag: Option<String>,
    /// SHA-256 of the artifact's manifest, in lower-case hexadecimal.
    pub sha256: String,
}

/// What is wrong with a text, and the remedy.
type Misspelt = (String, String);

impl ModuleSource {
    /// As a configuration names it. Files start at `directory`; a directory there has a file for each route, by its name.
    pub(crate) fn parse(text: &str, directory: &Path, route: &str) -> Result<Self, Misspelt> {
        if let Some(reference) = text.strip_prefix(OCI) {
            return OciReference::parse(reference, &shorten(text)).map(Self::Oci);
        }
        let path = directory.join(text);
        Ok(Self::File(if path.is_dir() { path.join(format!("{route}.wasm")) } else { path }))
    }

    /// The file, where it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Oci(_) => None,
        }
    }
}

impl OciReference {
    fn parse(text: &str, shown: &str) -> Result<Self, Misspelt> {
        let form = || format!("write oci://registry.example/team/orders@{SHA256}<{HEX_DIGITS} hexadecimal digits>");
        let parsed = Reference::try_from(text).map_err(|error| (format!("{shown} is no OCI reference: {error}"), form()))?;
        let first = text.split('/').next().unwrap_or_default();
        let names_a_registry = text.contains('/') && (first.contains(['.', ':']) || first == "localhost");
        if !names_a_registry {
            let remedy = format!("begin with the registry's host: oci://{}/{}", parsed.registry(), parsed.repository());
            return Err((format!("{shown} names no registry"), remedy));
        }
        let Some(digest) = parsed.digest() else {
            let remedy =
                "pin the digest of its manifest, which `oras resolve` or `crane digest` prints: a tag may name another module tomorrow";
            return Err((format!("{shown} has no digest"), format!("{remedy}; {}", form())));
        };
        let Some(sha256) = digest.strip_prefix(SHA256) else {
            return Err((format!("{shown} has a digest that is no SHA-256"), form()));
        };
        Ok(Self {
            registry: parsed.registry().to_owned(),
            repository: parsed.repository().to_owned(),
            tag: parsed.tag().map(str::to_owned),
            sha256: sha256.to_ascii_lowercase(),
        })
    }
}

/// Whether a registry's name, with or without a port, is one of this machine's own.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Default for ModuleSource {
    fn default() -> Self {
        Self::File(PathBuf::new())
    }
}

impl From<PathBuf> for ModuleSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&str> for ModuleSource {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<&Path> for ModuleSource {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl fmt::Display for ModuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Oci(reference) => reference.fmt(f),
        }
    }
}

impl fmt::Debug for ModuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, tag, sha256 } = self;
        let tag = tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        write!(f, "{OCI}{registry}/{repository}{tag}@{SHA256}{sha256}")
    }
}

impl fmt::Debug for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[expect(clippy::panic, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        match (ModuleSource::parse(text, Path::new("/etc/streamsync"), "orders"), expected) {
            (Ok(source), Ok(expected)) => assert_eq!(source.to_string(), expected, "{text}"),
            (Err((message, remedy)), Err(expected)) => assert!(format!("{message}: {remedy}").contains(expected), "{message}: {remedy}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn sources() {
        let digest = "0123456789abcdef".repeat(4);
        check("transforms/orders.wasm", Ok("/etc/streamsync/transforms/orders.wasm"));
        let whole = format!("oci://registry.example:5000/team/orders:1.2@sha256:{digest}");
        check(&whole, Ok(&whole));
        check(&format!("oci://localhost/orders@sha256:{}", digest.to_uppercase()), Ok(&format!("oci://localhost/orders@sha256:{digest}")));
        check("oci://ghcr.io/team/orders:1.2", Err("\"oci://ghcr.io/team/orders:1.2\" has no digest: pin the digest of its manifest"));
        check("oci://ghcr.io/team/orders", Err("has no digest"));
        check(
            &format!("oci://team/orders@sha256:{digest}"),
            Err("names no registry: begin with the registry's host: oci://docker.io/team/orders"),
        );
        check(&format!("oci://ghcr.io/team/orders@sha512:{}", digest.repeat(2)), Err("has a digest that is no SHA-256"));
        check("oci://ghcr.io/team/orders@sha256:12", Err("is no OCI reference"));
        check("oci://ghcr.io/Team/orders", Err("is no OCI reference"));
        check("oci://", Err("is no OCI reference"));
    }

    #[test]
    fn names_of_this_machine() {
        for name in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["ghcr.io", "localhost.example:5000", "10.0.0.1:5000", "128.0.0.1"] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
