//! Modules of a registry that runs in the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::signing::Signer;
use super::*;
use crate::config::{ModuleSource, RegistrySettings};
use crate::transform::{TransformHost, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const PASSWORD: &str = "hunter2 and more";

/// What a registry holds, by the end of its address: `manifests/sha256:…`, `blobs/sha256:…`.
#[derive(Clone, Default)]
struct Content(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Content {
    fn put(&self, address: String, content: &[u8]) {
        self.0.lock().unwrap().insert(address, content.to_owned());
    }

    fn blob(&self, content: &[u8]) -> String {
        let digest = format!("sha256:{}", sha256(content));
        self.put(format!("blobs/{digest}"), content);
        digest
    }

    /// A manifest, by its digest; which is returned without its algorithm.
    fn manifest(&self, manifest: &serde_json::Value) -> String {
        let manifest = manifest.to_string();
        let digest = sha256(manifest.as_bytes());
        self.put(format!("manifests/sha256:{digest}"), manifest.as_bytes());
        digest
    }

    fn module(&self, module: &[u8]) -> String {
        let digest = self.blob(module);
        self.manifest(&manifest(&[json!({ "mediaType": "application/wasm", "digest": digest, "size": module.len() })]))
    }

    /// As `cosign sign` pushes it.
    fn signature(&self, digest: &str, named: &str, signer: &Signer) {
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": "registry.example/team/orders" },
                "image": { "docker-manifest-digest": format!("sha256:{named}") },
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string();
        let layer = json!({
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": self.blob(payload.as_bytes()),
            "size": payload.len(),
            "annotations": { "dev.cosignproject.cosign/signature": signer.sign(payload.as_bytes()) },
        });
        self.put(format!("manifests/sha256-{digest}.sig"), manifest(&[layer]).to_string().as_bytes());
    }
}

fn manifest(layers: &[serde_json::Value]) -> serde_json::Value {
    let config = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": format!("sha256:{}", sha256(b"{}")), "size": 2 });
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
}

/// A registry, until it is dropped, and a host that pulls from it.
struct Place {
    content: Content,
    runtime: Option<Runtime>,
    pulls: PullSettings,
    name: String,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with(Router::new().route("/v2/", get(|| async { StatusCode::OK })))
    }

    /// One that wants a password.
    fn guarded() -> Self {
        let challenge = || async { (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"registry\"")]) };
        let mut place = Self::with(Router::new().route("/v2/", get(challenge)));
        place.content.put("password".into(), PASSWORD.as_bytes());
        place.pulls.registries = vec![RegistrySettings { name: place.name.clone(), credentials: None, plain_http: true }];
        place
    }

    fn with(router: Router<Content>) -> Self {
        let content = Content::default();
        let router: Router = router.route("/v2/team/orders/{kind}/{name}", get(answer)).with_state(content.clone());
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let name = listener.local_addr().unwrap().to_string();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { content, runtime: Some(runtime), pulls: PullSettings::default(), name, dir: tempfile::tempdir().unwrap() }
    }

    fn stop(&mut self) {
        drop(self.runtime.take());
    }

    /// What a process that starts now makes of the module.
    fn load(&self, digest: &str) -> Result<String, String> {
        self.load_signed(digest, None)
    }

    fn load_signed(&self, digest: &str, key: Option<&Signer>) -> Result<String, String> {
        let reference = format!("oci://{}/team/orders@sha256:{digest}", self.name);
        let module = ModuleSource::parse(&reference, Path::new(""), "orders").expect("a reference");
        let signature_key = key.map(|signer| {
            let path = self.dir.path().join("cosign.pub");
            fs::write(&path, signer.public_key()).unwrap();
            path
        });
        let settings = TransformSettings { module, signature_key, ..transform_settings(Path::new("")) };
        let host = TransformHostSettings { pulls: self.pulls.clone(), ..host_settings(Some(&self.dir.path().join("cache"))) };
        let host = TransformHost::new(&host).expect("a host");
        host.load(&settings).map(|module| module.digest.clone()).map_err(|error| error.to_string())
    }

    fn kept(&self, kind: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.dir.path().join("cache/pulled")).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == kind)).collect()
    }
}

async fn answer(State(content): State<Content>, UrlPath((kind, name)): UrlPath<(String, String)>, headers: HeaderMap) -> Response {
    let content = content.0.lock().unwrap();
    if let Some(password) = content.get("password") {
        let wanted = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode([b"team:", password.as_slice()].concat()));
        if headers.get(header::AUTHORIZATION).is_none_or(|given| given.as_bytes() != wanted.as_bytes()) {
            return (StatusCode::UNAUTHORIZED, "{}").into_response();
        }
    }
    match content.get(&format!("{kind}/{name}")) {
        Some(found) if kind == "manifests" => ([(header::CONTENT_TYPE, MANIFEST)], found.clone()).into_response(),
        Some(found) => found.clone().into_response(),
        None => (StatusCode::NOT_FOUND, json!({ "errors": [{ "code": "MANIFEST_UNKNOWN" }] }).to_string()).into_response(),
    }
}

#[test]
fn a_module_is_pulled_once() {
    let mut place = Place::new();
    let (first, second) = (place.content.module(&guest("")), place.content.module(&guest("nop")));
    assert_eq!(place.load(&first), Ok(sha256(&guest(""))));
    place.stop();
    assert_eq!(place.load(&first), Ok(sha256(&guest(""))), "from what was kept");
    let error = place.load(&second).expect_err("it was never pulled");
    assert!(error.contains(&place.name) && error.contains("can't be used"), "{error}");
    // What lies on the disk counts as little as what a registry says.
    let [module] = place.kept("wasm").try_into().expect("one module");
    fs::write(&module, guest("nop")).unwrap();
    assert!(place.load(&first).is_err());
}

#[test]
fn what_is_not_what_its_digest_names_is_refused() {
    let place = Place::new();
    let content = &place.content;
    let module = guest("");
    let digest = content.blob(&module);
    let layer = |media_type: &str, size: usize| json!({ "mediaType": media_type, "digest": digest, "size": size });
    let good = layer("application/wasm", module.len());
    let absent = "ab".repeat(32);
    let other_manifest = "cd".repeat(32);
    content.put(format!("manifests/sha256:{other_manifest}"), manifest(std::slice::from_ref(&good)).to_string().as_bytes());
    let not_there = json!({ "mediaType": "application/wasm", "digest": format!("sha256:{absent}"), "size": 5 });
    let replaced = format!("sha256:{}", "ef".repeat(32));
    content.put(format!("blobs/{replaced}"), &module);
    let replaced = json!({ "mediaType": "application/wasm", "digest": replaced, "size": module.len() });
    let outside = json!({ "mediaType": "application/wasm", "digest": "sha256:../../../etc/passwd", "size": 5 });
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] });
    let cases = [
        (absent.clone(), format!("has no manifest sha256:{absent} in team/orders: push it there")),
        (other_manifest.clone(), format!("something else than the manifest sha256:{other_manifest}")),
        (content.manifest(&manifest(&[not_there])), format!("has no module sha256:{absent} in team/orders")),
        (content.manifest(&manifest(&[replaced])), "something else than the module sha256:efef".to_owned()),
        (content.manifest(&manifest(&[layer("application/wasm", 10)])), "longer than the 10 bytes".to_owned()),
        (content.manifest(&manifest(&[layer("application/wasm", 1 << 40)])), "is larger than 268435456 bytes".to_owned()),
        (
            content.manifest(&manifest(&[layer("application/gzip", 10)])),
            "one layer of the type application/wasm, this has [application/gzip]".to_owned(),
        ),
        (content.manifest(&manifest(&[good.clone(), good])), "this has [application/wasm, application/wasm]".to_owned()),
        (content.manifest(&manifest(&[outside])), "a digest that is no SHA-256".to_owned()),
        (content.manifest(&index), "an index of several manifests".to_owned()),
        (content.manifest(&json!("x".repeat(1 << 20))), "its manifest is larger than 1048576 bytes".to_owned()),
    ];
    for (digest, expected) in cases {
        let error = place.load(&digest).expect_err("refused");
        assert!(error.contains(&expected), "{expected}: {error}");
    }
    assert!(place.kept("wasm").is_empty());
}

#[test]
fn a_signature_is_looked_for_in_the_registry() {
    let mut place = Place::new();
    let (signer, other) = (Signer::new(), Signer::new());
    let digest = place.content.module(&guest(""));
    let refused = |place: &Place, signer: &Signer| place.load_signed(&digest, Some(signer)).expect_err("refused");
    let missing = refused(&place, &signer);
    assert!(missing.contains(&format!("has no manifest sha256-{digest}.sig, its signature")), "{missing}");
    assert!(missing.contains(&format!("cosign sign --key cosign.key {}/team/orders@sha256:{digest}", place.name)), "{missing}");
    place.content.signature(&digest, &digest, &other);
    assert!(refused(&place, &signer).contains("was not made with this key"));
    place.content.signature(&digest, &"ab".repeat(32), &signer);
    assert!(refused(&place, &signer).contains("one of another manifest"));
    place.content.put(format!("manifests/sha256-{digest}.sig"), manifest(&[]).to_string().as_bytes());
    assert!(refused(&place, &signer).contains("another form than `cosign sign` gives it"));
    assert!(place.kept("signatures").is_empty());
    place.content.signature(&digest, &digest, &signer);
    let loaded = Ok(sha256(&guest("")));
    assert_eq!(place.load_signed(&digest, Some(&signer)), loaded);
    place.stop();
    assert_eq!(place.load_signed(&digest, Some(&signer)), loaded, "from what was kept");
    assert!(refused(&place, &other).contains("can't be used"), "what was kept is not of that key");
}

#[test]
fn a_registry_is_told_who_asks() {
    let mut place = Place::guarded();
    let digest = place.content.module(&guest(""));
    let name = place.name.clone();
    let registry = |password: &str| {
        let credentials = Some(("team".to_owned(), password.to_owned()));
        vec![RegistrySettings { name: name.clone(), credentials, plain_http: true }]
    };
    let error = place.load(&digest).expect_err("nobody in particular");
    assert!(
        error.contains(&format!("does not let this worker read team/orders: set user and password in [transforms.registries.\"{name}\"]")),
        "{error}"
    );
    place.pulls.registries = registry("a guess");
    let error = place.load(&digest).expect_err("another password");
    assert!(error.contains("check user and password") && !error.contains("a guess"), "{error}");
    place.pulls.registries = registry(PASSWORD);
    assert_eq!(place.load(&digest), Ok(sha256(&guest(""))));
    assert!(!format!("{:?}", place.pulls).contains(PASSWORD));
}

#[test]
fn only_a_registry_of_this_machine_goes_without_tls_by_itself() {
    let mut place = Place::new();
    let digest = place.content.module(&guest(""));
    place.pulls.registries = vec![RegistrySettings { name: place.name.clone(), credentials: None, plain_http: false }];
    let error = place.load(&digest).expect_err("it speaks no TLS");
    assert!(error.contains(&format!("plain_http = true in [transforms.registries.\"{}\"]", place.name)), "{error}");
    place.pulls.registries.clear();
    assert!(place.load(&digest).is_ok());
}

#[test]
fn a_registry_that_never_answers_is_given_up() {
    let mut place = Place::new();
    // Connections are taken by the system and read by nobody.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    place.name = silent.local_addr().unwrap().to_string();
    place.pulls.timeout = Duration::from_millis(100);
    let error = place.load(&"ab".repeat(32)).expect_err("no answer");
    assert!(error.contains("took longer than transforms.pull_timeout, 100ms"), "{error}");
}
