//! A server that takes no log-in, and says why by a code.

use std::time::Duration;

use mongodb::bson::doc;
use streamsync::sink::mongodb::MongoDbSink;
use streamsync::sink::{Error, Sink as _};

use crate::mongodb_store::settings;
use crate::wire::serve;

/// A log-in that fails for the moment is tried again; a wrong password is the operator's.
pub async fn what_a_failed_log_in_means() {
    for (code, name, expected) in [
        (18, "AuthenticationFailed", "Setup"),
        (91, "ShutdownInProgress", "Away"),
        (133, "FailedToSatisfyReadPreference", "Away"),
        (11600, "InterruptedAtShutdown", "Away"),
        (777_777, "SomethingNew", "Setup"),
    ] {
        let port = serve(move |command| {
            let refusal = doc! { "ok": 0, "code": code, "codeName": name, "errmsg": "no" };
            command.contains_key("saslStart").then(|| refusal.to_vec().expect("BSON"))
        });
        let (mut settings, mongodb) = settings(&format!("mongodb://ada:s3cret@127.0.0.1:{port}/?directConnection=true"), "nowhere");
        settings.write_timeout = Duration::from_secs(5);
        let sink = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a uri that can be read");
        let fault = sink.check().await.expect_err("the server takes no log-in");
        assert!(format!("{fault:?}").starts_with(expected), "{code}: {fault:?}");
        assert!(fault.to_string().contains(&format!("error {code} {name}")), "{fault}");
        assert!(!fault.to_string().contains("s3cret") && !matches!(fault, Error::Refused { .. }), "{fault}");
    }
}
