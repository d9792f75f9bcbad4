//! Redis behind TLS with a certificate of an authority that nobody else knows.
//!
//! `fixtures/tls` has the authority, whose key is gone, and a server's certificate for 127.0.0.1 with its key; both last until 2120.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use streamsync::sink::redis::RedisSink;
use streamsync::sink::{Error, Sink as _};

use crate::cluster::{INFO, answer_all, bulk, listen, ok};
use crate::redis_store::settings;

/// Tells this program, when it starts itself again, where the server is.
const PORT: &str = "STREAMSYNC_TEST_TLS_PORT";

/// Which authorities are trusted is settled when a process starts, by its environment: so each case is a process of its own, the test `name`.
pub async fn the_system_s_authorities_are_trusted(name: &str) {
    if let Ok(port) = std::env::var(PORT) {
        return check(&port).await;
    }
    let port = serve().to_string();
    for (authority, expected) in [("authority.pem", "trusted"), ("server.key", "not trusted")] {
        let itself = std::env::current_exe().expect("this program");
        let mut again = Command::new(itself);
        again.args(["--exact", name, "--nocapture"]).env(PORT, &port).env("SSL_CERT_FILE", fixture(authority)).env_remove("SSL_CERT_DIR");
        let output = again.output().expect("this program once more");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.lines().any(|line| line == expected), "{authority}: {said}");
    }
}

async fn check(port: &str) {
    let (settings, redis) = settings(&[&format!("rediss://127.0.0.1:{port}")], false);
    let sink = RedisSink::new(&settings, &redis, Vec::new()).expect("a URL that can be read");
    match sink.check().await {
        Ok(()) => eprintln!("trusted"),
        Err(Error::Away { message, .. } | Error::Setup { message, .. }) => eprintln!("{message}\nnot trusted"),
        Err(error) => panic!("{error}"),
    }
}

/// Returns the port of a server that lives as long as the test.
fn serve() -> u16 {
    streamsync::machine::use_ring();
    let chain = CertificateDer::pem_file_iter(fixture("server.pem")).expect("a file").collect::<Result<_, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).expect("a key");
    let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a server's own certificate"));
    let (listener, port) = listen();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let session = ServerConnection::new(config.clone()).expect("a session");
            std::thread::spawn(move || answer_all(StreamOwned::new(session, connection), &answer));
        }
    });
    port
}

fn answer(command: &[String]) -> String {
    if command[0] == "INFO" { bulk(&INFO.replace("cluster_enabled:1", "cluster_enabled:0")) } else { ok() }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}
