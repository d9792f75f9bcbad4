//! Errors of the driver that take a server which answers in a certain way. Those that take none are in `src/sink/mongodb/fault.rs`.

use std::time::Duration;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use streamsync::sink::mongodb::MongoDbSink;
use streamsync::sink::{Error, Sink as _};
use streamsync::source::TopicPartition;

use crate::mongodb_store::settings;
use crate::wire::serve;

/// What a look at a watermark meets. `uri`: with PORT in the port's place. `answer`: to a command of this name.
async fn fault(uri: &str, name: &'static str, answer: Document) -> Error {
    let port = serve(move |command| command.contains_key(name).then(|| answer.to_vec().expect("BSON")));
    let (mut settings, mongodb) = settings(&uri.replace("PORT", &port.to_string()), "shop");
    settings.write_timeout = Duration::from_secs(5);
    let sink = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a uri that can be read");
    sink.watermark("group", &TopicPartition::new("shop.t", 0)).await.expect_err("no watermark")
}

fn check(fault: &Error, expected: &str, words: &str) {
    assert!(format!("{fault:?}").starts_with(expected) && fault.to_string().contains(words), "{expected} {words}: {fault:?}");
    assert!(!fault.to_string().contains("s3cret"), "{fault}");
}

/// A command that the server failed, and calls worth another try or not, whatever its code.
pub async fn a_failed_command_that_may_be_repeated_is() {
    let direct = "mongodb://127.0.0.1:PORT/?directConnection=true";
    for (code, name, expected) in [(13, "Unauthorized", "Setup"), (14031, "OutOfDiskSpace", "Full"), (777_777, "SomethingNew", "Away")] {
        let failed = doc! { "ok": 0, "code": code, "codeName": name, "errmsg": "s3cret" };
        check(&fault(direct, "find", failed.clone()).await, expected, &format!("error {code} {name}"));
        let mut labelled = failed;
        labelled.insert("errorLabels", ["RetryableWriteError"].as_slice());
        check(&fault(direct, "find", labelled).await, "Away", &format!("error {code} {name}"));
    }
}

/// What no command should be answered with says nothing of what became of it.
pub async fn an_answer_that_is_none_is_tried_again() {
    let direct = "mongodb://127.0.0.1:PORT/?directConnection=true";
    for answer in [doc! { "ok": 1 }, doc! { "ok": 1, "cursor": 7 }] {
        check(&fault(direct, "find", answer).await, "Away", "the server's answer was not understood");
    }
}

pub async fn a_server_that_can_t_do_what_the_uri_asks_for_is_the_operator_s() {
    // It stands alone: behind no balancer, as it says by leaving out who it is.
    let balanced = fault("mongodb://127.0.0.1:PORT/?loadBalanced=true", "nothing", doc! {}).await;
    check(&balanced, "Setup", "MongoDB 5.0 or a compatible server is needed");
    // One that is too old for the driver, which then selects none.
    let old = doc! { "ok": 1, "isWritablePrimary": true, "ismaster": true, "minWireVersion": 0, "maxWireVersion": 6,
    "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000 };
    let port =
        serve(move |command| (command.contains_key("hello") || command.contains_key("isMaster")).then(|| old.to_vec().expect("BSON")));
    let (settings, mongodb) = settings(&format!("mongodb://127.0.0.1:{port}/?directConnection=true"), "shop");
    let sink = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a uri that can be read");
    let refused = sink.watermark("group", &TopicPartition::new("shop.t", 0)).await.expect_err("no watermark");
    check(&refused, "Setup", "MongoDB 5.0 or a compatible server is needed");
    // A log-in that goes wrong without any code of the server's.
    let payload = Binary { subtype: BinarySubtype::Generic, bytes: b"s3cret".to_vec() };
    let nonsense = doc! { "ok": 1, "conversationId": 1, "done": false, "payload": payload };
    let login = fault("mongodb://ada:s3cret@127.0.0.1:PORT/?directConnection=true", "saslStart", nonsense).await;
    check(&login, "Setup", "authentication failed; check user, password");
}
