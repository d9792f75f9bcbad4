//! The contract's released versions stay as they are: each file under `wit/` has the digest that `wit/released.sha256` has of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// What is wrong; empty where nothing is.
///
/// # Errors
/// The list of released versions can't be read.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>> {
    let dir = root.join("wit");
    let list = dir.join("released.sha256");
    let released = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "wit") {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            files.push((name, fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?));
        }
    }
    Ok(compare(&released, &files))
}

/// Compares the list with the files, each a name and its text.
fn compare(released: &str, files: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    let lines: Vec<Vec<&str>> =
        released.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| line.split(' ').collect()).collect();
    for line in &lines {
        let [version, file, digest] = line.as_slice() else {
            faults.push(format!("wit/released.sha256: {line:?} is not a version, a file and its SHA-256"));
            continue;
        };
        let Some((_, text)) = files.iter().find(|(name, _)| name == file) else {
            faults.push(format!("wit/{file} is missing: version {version} of the contract is released and stays"));
            continue;
        };
        if sha256(text) != **digest {
            faults.push(format!(
                "wit/{file} was changed: version {version} of the contract is released and frozen; undo that, and put the change into a new version beside it \
                 (docs/decisions/0016-contract-policy.md)"
            ));
        }
        if version_of(text) != Some(version) {
            faults.push(format!("wit/{file} is not version {version} of streamsync:transform, as wit/released.sha256 says"));
        }
    }
    for (name, text) in files {
        if version_of(text).is_none() {
            faults.push(format!("wit/{name} does not begin with `package streamsync:transform@VERSION;`"));
        }
    }
    faults
}

fn version_of(text: &str) -> Option<&str> {
    text.lines().next()?.strip_prefix("package streamsync:transform@")?.strip_suffix(';')
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "package streamsync:transform@0.1.0;\n";

    fn check(released: &str, files: &[(&str, &str)], expected: &[&str]) {
        let files: Vec<(String, String)> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let faults = compare(released, &files);
        assert_eq!(faults.len(), expected.len(), "{faults:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.contains(expected), "{expected}: {fault}");
        }
    }

    #[test]
    fn a_released_version_stays_as_it_is() {
        let digest = sha256(TEXT);
        let released = format!("# why\n0.1.0 a.wit {digest}\n");
        check(&released, &[("a.wit", TEXT)], &[]);
        // A version that is not released yet may change.
        check(&released, &[("a.wit", TEXT), ("b.wit", "package streamsync:transform@0.2.0;\n")], &[]);
        check(&released, &[("a.wit", &format!("{TEXT}// more\n"))], &["a.wit was changed"]);
        check(&released, &[], &["a.wit is missing"]);
        check(&released, &[("a.wit", TEXT), ("b.wit", "package other:one@0.2.0;\n")], &["b.wit does not begin"]);
        check(&format!("0.2.0 a.wit {digest}\n"), &[("a.wit", TEXT)], &["is not version 0.2.0"]);
        check("0.1.0 a.wit\n", &[("a.wit", TEXT)], &["is not a version, a file and its SHA-256"]);
    }

    #[test]
    fn the_tree_keeps_its_released_versions() -> Result<()> {
        assert_eq!(faults(&crate::progress::root())?, Vec::<String>::new());
        Ok(())
    }
}
