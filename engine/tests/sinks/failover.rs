//! One name for two Redis servers, as during a failover: connections that were made before it lead to the one, later ones to the other.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use streamsync::fence::Generation;
use streamsync::sink::redis::RedisSink;
use streamsync::sink::{Error, Replaces, Sink as _, Watermark};
use streamsync::source::TopicPartition;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::cluster::{answer_all, bulk, listen, ok, write};
use crate::redis_store::settings;

#[derive(Debug, Default)]
struct Name {
    has_failed_over: AtomicBool,
    /// What each server was asked: its name, and the command's.
    asked: Mutex<BTreeSet<(&'static str, String)>>,
    /// Where set, the first server tells that it was asked who it is, and keeps its answer until it is told to go on.
    held: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Name {
    fn served(self: &Arc<Self>) -> RedisSink {
        let (listener, port) = listen();
        let name = Arc::clone(self);
        std::thread::spawn(move || name.accept(&listener));
        let (settings, redis) = settings(&[&format!("redis://127.0.0.1:{port}")], false);
        RedisSink::new(&settings, &redis, Vec::new()).expect("a URL that can be read")
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for connection in listener.incoming().flatten() {
            let server = if self.has_failed_over() { "second" } else { "first" };
            let name = Arc::clone(&self);
            std::thread::spawn(move || answer_all(connection, &|command| name.answer(server, command)));
        }
    }

    fn answer(&self, server: &'static str, command: &[String]) -> String {
        self.asked.lock().expect("not poisoned").insert((server, command[0].clone()));
        let is_replica = || server == "first" && self.has_failed_over();
        match &*command[0] {
            "INFO" => {
                let answer = bulk(&format!("run_id:{server}\r\nrole:{}\r\n", if is_replica() { "slave" } else { "master" }));
                if server == "first"
                    && let Some((told, go_on)) = &mut *self.held.lock().expect("not poisoned")
                {
                    told.try_send(()).ok();
                    go_on.blocking_recv();
                }
                answer
            }
            "EVAL" | "EVALSHA" if is_replica() => "-READONLY You can't write against a read only replica.\r\n".to_owned(),
            "EVAL" | "EVALSHA" => ":1\r\n".to_owned(),
            "GET" => "$-1\r\n".to_owned(),
            _ => ok(),
        }
    }

    fn has_failed_over(&self) -> bool {
        self.has_failed_over.load(Ordering::SeqCst)
    }

    fn fails_over(&self) {
        self.has_failed_over.store(true, Ordering::SeqCst);
    }

    fn was_asked(&self, server: &'static str, command: &str) -> bool {
        self.asked.lock().expect("not poisoned").contains(&(server, command.to_owned()))
    }
}

/// The answer of the server that was is on its way when another one takes its place, and others write to that one already.
pub async fn a_watermark_goes_to_the_server_that_was_asked() {
    let name = Arc::new(Name::default());
    let sink = name.served();
    let lineage = sink.lineage().await.expect("an answer");
    assert_eq!(write(&sink).await, (64, 0));
    let ((told, mut is_asked), (goes_on, go_on)) = (channel(1), channel(1));
    *name.held.lock().expect("not poisoned") = Some((told, go_on));
    let source = TopicPartition { topic: "shop.orders".into(), partition: 0 };
    let watermark = Watermark { generation: Generation::FIRST, next_offset: 7, written_at_ms: 0, complete_until_ms: 0 };
    let failover = async {
        is_asked.recv().await.expect("a question");
        name.fails_over();
        assert_eq!(write(&sink).await, (0, 64));
        assert_eq!(write(&sink).await, (64, 0));
        goes_on.send(()).await.expect("somebody waits");
    };
    let (stored, ()) = tokio::join!(sink.store_watermark("group", &source, lineage, Replaces::NotBehind(None), watermark), failover);
    assert!(matches!(stored, Err(Error::Away { .. })), "{stored:?}");
    assert!(!name.was_asked("second", "EVAL"), "the watermark hides what the second server lacks");
}
