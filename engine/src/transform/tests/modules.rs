//! What is loaded, and what is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::signing::Signer;
use super::*;
use crate::transform::{Guest, SetupError, TransformHost};

struct Folder {
    dir: tempfile::TempDir,
    host: TransformHost,
}

impl Folder {
    fn new(cached: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = cached.then(|| dir.path().join("cache"));
        let host = TransformHost::new(&host_settings(cache.as_deref())).expect("a host");
        Self { dir, host }
    }

    fn file(&self, content: &[u8]) -> TransformSettings {
        let path = self.dir.path().join("t.wasm");
        fs::write(&path, content).expect("written");
        transform_settings(&path)
    }

    fn cached(&self) -> Vec<PathBuf> {
        fs::read_dir(self.dir.path().join("cache")).map(|files| files.map(|file| file.unwrap().path()).collect()).unwrap_or_default()
    }
}

#[test]
fn what_is_no_transform_is_refused_by_its_name() {
    let folder = Folder::new(false);
    let good = guest("");
    let core = wat::parse_str("(module)").unwrap();
    let wasi = wat::parse_str(r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#).unwrap();
    let other = wat::parse_str("(component)").unwrap();
    let newer = component(&include_str!("guest.wat").replace("ON_POISON", "").replace("@0.1.0", "@0.2.0"), "0.2.0");
    let cases: [(&[u8], &str); 9] = [
        (b"", "it is empty"),
        (b"(component)", "no WebAssembly component"),
        (b"\x7fELF\x02\x01\x01", "compiled machine code"),
        (&core, "core WebAssembly module"),
        (&good[..good.len() / 2], "does not compile"),
        (&wasi, "imports wasi:clocks/wall-clock@0.2.0"),
        (&newer, "is made for version 0.2.0 of streamsync:transform, this engine runs 0.1.0"),
        (&other, "does not fit streamsync:transform@0.1.0"),
        (&good[..8], "does not fit streamsync:transform@0.1.0"),
    ];
    for (content, expected) in cases {
        let error = folder.host.load(&folder.file(content)).expect_err("refused").to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let missing = folder.host.load(&transform_settings(Path::new("/nowhere/t.wasm"))).expect_err("missing");
    assert!(matches!(missing, SetupError::Unreadable { .. }));
}

#[test]
fn a_pinned_module_is_that_module() {
    let folder = Folder::new(false);
    let mut settings = folder.file(&guest(""));
    let module = folder.host.load(&settings).expect("a module");
    assert_eq!((module.name.as_str(), module.version.as_str(), module.digest.len()), ("test-guest", "1.2.3", 64));
    settings.sha256 = Some(module.digest.clone());
    folder.host.load(&settings).expect("the pinned module");
    settings.sha256 = Some("00".repeat(32));
    let error = folder.host.load(&settings).expect_err("another module").to_string();
    assert!(error.contains(&module.digest) && error.contains(&"00".repeat(32)), "{error}");
}

/// Signed here with a key of its own: as `cosign sign-blob` does it, over the file's bytes.
#[test]
fn a_signature_is_asked_for_where_a_key_is_configured() {
    let signer = Signer::new();
    let folder = Folder::new(false);
    let mut settings = folder.file(&guest(""));
    let file = |name: &str| folder.dir.path().join(name);
    fs::write(file("cosign.pub"), signer.public_key()).unwrap();
    settings.signature_key = Some(file("cosign.pub"));
    let refused = |settings: &TransformSettings| folder.host.load(settings).expect_err("refused").to_string();
    let error = refused(&settings);
    assert!(error.contains("t.wasm.sig can't be read") && error.contains("cosign sign-blob"), "{error}");
    let sign = |bytes: &[u8]| fs::write(file("t.wasm.sig"), signer.sign(bytes)).unwrap();
    sign(b"something else");
    assert!(refused(&settings).contains("was not made with this key for this module"));
    sign(&guest(""));
    folder.host.load(&settings).expect("signed");
    folder.file(&guest("nop"));
    assert!(refused(&settings).contains("was not made with this key for this module"));
}

#[test]
fn a_compiled_module_is_kept_and_checked() {
    let folder = Folder::new(true);
    let settings = folder.file(&guest(""));
    folder.host.load(&settings).expect("compiled");
    let [kept] = folder.cached().try_into().expect("one file");
    let content = fs::read(&kept).unwrap();
    folder.host.load(&settings).expect("from the cache");
    // Whatever happens to the file, it is written anew and never executed.
    for broken in [&content[..content.len() - 1], &content[..10], &[content.as_slice(), b"x"].concat()] {
        fs::write(&kept, broken).unwrap();
        folder.host.load(&settings).expect("compiled again");
        assert_eq!(fs::read(&kept).unwrap().len(), content.len());
    }
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o666)).unwrap();
    folder.host.load(&settings).expect("compiled again");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn compiled_modules_that_are_not_used_any_more_go() {
    let folder = Folder::new(true);
    let settings = folder.file(&guest(""));
    folder.host.load(&settings).expect("compiled");
    let [used] = folder.cached().try_into().expect("one file");
    for number in 0..70 {
        let old = folder.dir.path().join(format!("cache/{number:064x}-0.compiled"));
        fs::write(&old, "old").unwrap();
        let age = Duration::from_secs(86_400 + number);
        fs::File::options().write(true).open(&old).unwrap().set_modified(std::time::SystemTime::now() - age).unwrap();
    }
    fs::write(folder.dir.path().join("cache/a file of somebody"), "").unwrap();
    folder.host.load(&settings).expect("from the cache");
    assert_eq!(folder.cached().len(), 72, "nothing was compiled, nothing is removed");
    folder.host.load(&folder.file(&guest("nop"))).expect("compiled");
    let left = folder.cached();
    assert_eq!(left.len(), 65, "64 modules and a file of somebody");
    assert!(left.contains(&used));
    assert!(left.iter().any(|path| path.ends_with(format!("{:064x}-0.compiled", 0))), "the newest of the old ones");
    assert!(!left.iter().any(|path| path.ends_with(format!("{:064x}-0.compiled", 69))), "not the oldest");
}

#[test]
fn a_cache_that_others_can_write_to_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let host = TransformHost::new(&host_settings(Some(&cache))).expect("a host");
    let file = dir.path().join("t.wasm");
    fs::write(&file, guest("")).unwrap();
    host.load(&transform_settings(&file)).expect("compiled");
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
}

#[test]
fn an_init_error_has_the_guest_s_words() {
    let folder = Folder::new(false);
    let mut settings = folder.file(&guest(""));
    settings.config = String::new();
    let module = folder.host.load(&settings).expect("a module");
    let error = Guest::new(module, route(settings), &[]).err().expect("refused");
    assert_eq!(error.to_string(), "transform test-guest of route t can't be started: the transform failed: no");
}

#[test]
fn a_module_that_no_route_asked_for_is_told_without_one() {
    let folder = Folder::new(false);
    let error = folder.host.load(&folder.file(&guest_of(&[("(;ON_DESCRIBE;)", "unreachable")]))).expect_err("a trap").to_string();
    assert!(error.contains("t.wasm can't be started: the transform trapped: "), "{error}");
}
