//! As much of MongoDB's wire protocol as it takes to answer a driver, byte by byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use mongodb::bson::{Document, doc};

/// Bytes of a message before its one section: length, request, response to, operation, flags, the section's kind.
const HEAD: usize = 21;

/// Returns the port of a server that lives as long as the test. `answer` has the bytes of a document for a command, or leaves it to be answered
/// as by a server that stands alone.
pub fn serve(answer: impl Fn(&Document) -> Option<Vec<u8>> + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || while exchange(&connection, &answer).is_ok() {});
        }
    });
    port
}

/// Reads one command and answers it.
fn exchange(mut connection: &TcpStream, answer: &impl Fn(&Document) -> Option<Vec<u8>>) -> std::io::Result<()> {
    let mut head = [0; HEAD];
    connection.read_exact(&mut head)?;
    let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
    let mut body = vec![0; length - HEAD];
    connection.read_exact(&mut body)?;
    let command = Document::from_reader(body.as_slice()).map_err(std::io::Error::other)?;
    let alone = || {
        doc! { "ok": 1, "helloOk": true, "isWritablePrimary": true, "ismaster": true, "minWireVersion": 0, "maxWireVersion": 21,
        "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000 }
    };
    let reply = answer(&command).map_or_else(|| alone().to_vec().map_err(std::io::Error::other), Ok)?;
    let mut out = Vec::with_capacity(HEAD + reply.len());
    out.extend(u32::try_from(HEAD + reply.len()).expect("a short reply").to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(&head[4..8]);
    out.extend(&head[12..16]);
    out.extend([0; 5]);
    out.extend(reply);
    connection.write_all(&out)
}
