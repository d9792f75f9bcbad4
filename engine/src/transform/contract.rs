//! Which version of the contract a component is made for. A version that was released stays: docs/decisions/0016-contract-policy.md.

use super::host::SetupError;

/// The interface that every transform exports.
const EXPORT: &str = "streamsync:transform/transform@";
/// The package of everything that a transform may import.
const PACKAGE: &str = "streamsync:transform/";

/// A version that this engine runs, each with bindings of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contract {
    /// `wit/transform.wit` as 0.1.0 has it.
    V0_1_0,
}

/// The versions that this engine runs, the newest first.
pub const VERSIONS: [&str; 1] = ["0.1.0"];

impl Contract {
    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
        }
    }

    fn known(version: &str) -> Option<Self> {
        [Self::V0_1_0].into_iter().find(|contract| contract.version() == version)
    }

    /// The version that a component is made for, by the names of its exports and imports; all of one version.
    pub(super) fn of<'n>(
        exports: impl Iterator<Item = &'n str>,
        imports: impl Iterator<Item = &'n str>,
        path: &str,
    ) -> Result<Self, SetupError> {
        let Some(version) = exported(exports) else {
            let message = format!("it does not export {EXPORT}{}", VERSIONS.join(" or "));
            return Err(SetupError::OtherWorld { path: path.to_owned(), message });
        };
        let imported = imports.filter(|name| name.starts_with(PACKAGE)).filter_map(|name| Some(name.split_once('@')?.1));
        for found in std::iter::once(version.as_str()).chain(imported) {
            if Self::known(found).is_none() || found != version {
                return Err(SetupError::OtherContract { path: path.to_owned(), found: found.to_owned(), known: VERSIONS.join(", ") });
            }
        }
        Self::known(&version).ok_or_else(|| SetupError::OtherContract { path: path.to_owned(), found: version, known: VERSIONS.join(", ") })
    }
}

/// The version of the contract that one of these exports is of.
pub fn exported<'n>(mut exports: impl Iterator<Item = &'n str>) -> Option<String> {
    exports.find_map(|name| name.strip_prefix(EXPORT)).map(str::to_owned)
}
