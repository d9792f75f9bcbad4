//! What the driver makes of a server's replies, where that is not what the server said.

use futures_util::StreamExt;
use mongodb::Client;
use mongodb::bson::{Document, RawDocumentBuf, doc, rawdoc};
use streamsync::sink::mongodb::Server;

use crate::wire::serve;

async fn connected(answer: impl Fn(&Document) -> Option<Vec<u8>> + Clone + Send + 'static) -> impl Server {
    let uri = format!("mongodb://127.0.0.1:{}/?directConnection=true", serve(answer));
    Client::with_uri_str(uri).await.expect("a client").database("shop")
}

/// A server cuts a long value in a message after so many bytes, which may be in the midst of a character.
pub async fn a_message_that_is_cut_in_a_character_hides_no_code() {
    let cut = |reply: Document| {
        let mut bytes = reply.to_vec().expect("BSON");
        let at = bytes.iter().position(|byte| *byte == b'~').expect("the place of the cut");
        bytes[at] = 0xc3;
        bytes
    };
    let error = doc! { "index": 0, "code": 11000, "keyPattern": { "_id": 1 }, "errmsg": "E11000 duplicate key: \"caf~..." };
    let server = connected(move |command| match command.keys().next().map(String::as_str) {
        Some("update") => Some(cut(doc! { "n": 0, "writeErrors": [error.clone()], "ok": 1.0 })),
        Some("delete") => Some(cut(doc! { "ok": 0.0, "code": 91, "errmsg": "~" })),
        _ => None,
    })
    .await;
    let reply = server.run(rawdoc! { "update": "t", "updates": [{ "q": {}, "u": {} }] }).await.expect("it was carried out");
    let errors = reply.get_array("writeErrors").expect("errors");
    let error = errors.get_document(0).expect("an error");
    assert_eq!((error.get_i32("index").ok(), error.get_i32("code").ok()), (Some(0), Some(11000)));
    server.run(rawdoc! { "delete": "t", "deletes": [{ "q": {}, "limit": 1 }] }).await.expect_err("it was not carried out");
}

/// The command's size of a page counts for the pages after the first as well.
pub async fn every_page_has_the_size_that_was_asked_for() {
    let server = connected(|command| {
        let page = |name: &str, id: i64| doc! { "ok": 1, "cursor": { "id": id, "ns": "shop.t", name: [{ "_id": id }] } };
        let reply = match command.keys().next().map(String::as_str)? {
            "find" => page("firstBatch", 7),
            "getMore" if command.get_i32("batchSize").ok().or(command.get_i64("batchSize").ok().map(|size| size as i32)) == Some(3) => {
                page("nextBatch", 0)
            }
            "getMore" => doc! { "ok": 0, "code": 9, "codeName": "FailedToParse", "errmsg": format!("{command}") },
            _ => return None,
        };
        Some(reply.to_vec().expect("BSON"))
    })
    .await;
    let find: RawDocumentBuf = rawdoc! { "find": "t", "filter": {}, "batchSize": 3 };
    let pages: Vec<_> = server.find(find).await.expect("a cursor").collect().await;
    assert_eq!(pages.len(), 2, "{pages:?}");
    pages.into_iter().for_each(|page| drop(page.expect("a page")));
}
