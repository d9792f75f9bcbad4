//! The MongoDB sink under the suite that all sinks share, and under what only MongoDB does.
//!
//! Runs where `STREAMSYNC_TEST_MONGODB_URI` names a server; `cargo xtask test` sets it.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[path = "sinks/earlier.rs"]
mod earlier;
#[path = "sinks/kinds.rs"]
mod kinds;
#[path = "sinks/lineage.rs"]
mod lineage;
#[path = "sinks/login.rs"]
mod login;
#[path = "sinks/mongodb.rs"]
mod mongodb_store;
#[path = "sinks/replies.rs"]
mod replies;
#[path = "sinks/restored.rs"]
mod restored;
#[path = "sinks/router.rs"]
mod router;
#[path = "sinks/server.rs"]
mod server;
#[path = "sinks/suite.rs"]
mod suite;
#[path = "sinks/wire.rs"]
mod wire;

use server::{runtime, server};

const MONGODB: &str = "STREAMSYNC_TEST_MONGODB_URI";

#[test]
fn mongodb_conforms() {
    let Some(uri) = server(MONGODB) else { return };
    let runtime = runtime();
    let store = runtime.block_on(mongodb_store::MongoDb::connect(&uri));
    runtime.block_on(async {
        suite::all(&store).await;
        mongodb_store::of_its_own(&store).await;
    });
    suite::any_order_ends_alike(&runtime, &store, 16);
    runtime.block_on(store.drop());
}

#[test]
fn mongodb_away_is_said_in_time() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    runtime().block_on(mongodb_store::away_is_said_in_time(port));
}

#[test]
fn mongodb_wrong_password() {
    let Some(uri) = server(MONGODB) else { return };
    runtime().block_on(mongodb_store::wrong_password(&uri));
}

#[test]
fn mongodb_takes_no_log_in() {
    runtime().block_on(login::what_a_failed_log_in_means());
}

#[test]
fn mongodb_kinds_of_errors() {
    runtime().block_on(async {
        kinds::a_failed_command_that_may_be_repeated_is().await;
        kinds::an_answer_that_is_none_is_tried_again().await;
        kinds::a_server_that_can_t_do_what_the_uri_asks_for_is_the_operator_s().await;
    });
}

#[test]
fn mongodb_lineage() {
    runtime().block_on(lineage::each_change_of_who_answers_is_counted());
}

#[test]
fn mongodb_replies() {
    runtime().block_on(async {
        replies::a_message_that_is_cut_in_a_character_hides_no_code().await;
        replies::every_page_has_the_size_that_was_asked_for().await;
    });
}

#[test]
fn mongodb_put_back_while_it_is_swept() {
    runtime().block_on(restored::tombstones_come_back());
}

#[test]
fn mongodb_shard_keys() {
    runtime().block_on(router::shard_keys());
}

#[test]
fn mongodb_bad_uris() {
    mongodb_store::bad_uris();
}
