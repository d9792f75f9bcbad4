//! A server that takes no log-in, and says why by a code.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use streamsync::sink::mongodb::MongoDbSink;
use streamsync::sink::{Error, Sink as _};

use crate::mongodb_store::settings;

/// Bytes of a message before its one section: length, request, response to, operation, flags, the section's kind.
const HEAD: usize = 21;

/// A log-in that fails for the moment is tried again; a wrong password is the operator's.
pub async fn what_a_failed_log_in_means() {
    for (code, name, expected) in [
        (18, "AuthenticationFailed", "Setup"),
        (91, "ShutdownInProgress", "Away"),
        (133, "FailedToSatisfyReadPreference", "Away"),
        (11600, "InterruptedAtShutdown", "Away"),
        (777_777, "SomethingNew", "Setup"),
    ] {
        let port = serve(code, name);
        let (mut settings, mongodb) = settings(&format!("mongodb://ada:s3cret@127.0.0.1:{port}/?directConnection=true"), "nowhere");
        settings.write_timeout = Duration::from_secs(5);
        let sink = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a uri that can be read");
        let fault = sink.check().await.expect_err("the server takes no log-in");
        assert!(format!("{fault:?}").starts_with(expected), "{code}: {fault:?}");
        assert!(fault.to_string().contains(&format!("error {code} {name}")), "{fault}");
        assert!(!fault.to_string().contains("s3cret") && !matches!(fault, Error::Refused { .. }), "{fault}");
    }
}

/// Returns the port of a server that lives as long as the test.
fn serve(code: i32, name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || while answer(&connection, code, name).is_ok() {});
        }
    });
    port
}

/// Reads one command and answers it.
fn answer(mut connection: &TcpStream, code: i32, name: &str) -> std::io::Result<()> {
    let mut head = [0; HEAD];
    connection.read_exact(&mut head)?;
    let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
    let mut body = vec![0; length - HEAD];
    connection.read_exact(&mut body)?;
    let command = Document::from_reader(body.as_slice()).map_err(std::io::Error::other)?;
    let reply = match command.keys().next().map(String::as_str) {
        Some("saslStart") => doc! { "ok": 0, "code": code, "codeName": name, "errmsg": "no" },
        _ => doc! { "ok": 1, "helloOk": true, "isWritablePrimary": true, "ismaster": true, "minWireVersion": 0, "maxWireVersion": 21,
        "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000 },
    };
    let reply = reply.to_vec().map_err(std::io::Error::other)?;
    let mut out = Vec::with_capacity(HEAD + reply.len());
    out.extend(u32::try_from(HEAD + reply.len()).expect("a short reply").to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(&head[4..8]);
    out.extend(&head[12..16]);
    out.extend([0; 5]);
    out.extend(reply);
    connection.write_all(&out)
}
