//! The way between a worker and a store, and all that happens on it: delay, loss before and after the deed, half of a bulk, a deed that is
//! done long after the worker gave up on it, or twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use mongodb::bson::raw::RawArrayBuf;
use mongodb::bson::{RawDocumentBuf, cstr, rawdoc};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionInfo, RedisResult};
use streamsync::sink::{mongodb as mongodb_sink, redis as redis_sink};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, oneshot};

use crate::mongodb::{self as server, Done, Statement};
use crate::mysql::Store;
use crate::process::Process;
use crate::redis::{Reply, take_commands, write_reply};
use crate::setting::WRITE_TIMEOUT;
use crate::world::{World, locked};

/// What the network and the server do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// The request is lost.
    Lost,
    /// The answer is lost.
    Unanswered,
    /// The answer comes after the client's patience has ended.
    AnsweredLate,
    /// The first half is done, then the connection breaks.
    Half,
    /// Single statements are refused for the moment.
    Refused,
    /// It is done, but no majority has it in time.
    Unconfirmed,
    /// It is done when nobody waits for it any more.
    Late,
    /// It is done and answered, and done once more later.
    Twice,
}

const FATES: [Fate; 8] =
    [Fate::Lost, Fate::Unanswered, Fate::AnsweredLate, Fate::Half, Fate::Refused, Fate::Unconfirmed, Fate::Late, Fate::Twice];

/// The state of one store's servers and of the way to them.
#[derive(Debug)]
pub struct Weather {
    /// Nobody is there.
    pub down: std::sync::atomic::AtomicBool,
    /// Counts the times when all connections broke.
    connections: std::sync::atomic::AtomicU64,
    broken: Notify,
    /// How many requests in a thousand meet something.
    pub storm_permille: std::sync::atomic::AtomicU32,
}

impl Weather {
    pub fn new() -> Self {
        Self { down: false.into(), connections: 0.into(), broken: Notify::new(), storm_permille: 0.into() }
    }

    pub fn break_connections(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.broken.notify_waiters();
    }

    pub fn connection(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }
}

impl World {
    fn fate(&self, store: Store) -> Fate {
        let storm = self.weather(store).storm_permille.load(Ordering::Relaxed);
        let mut dice = locked(&self.dice);
        if storm == 0 || !dice.permille(storm) { Fate::Done } else { dice.pick(&FATES).copied().unwrap_or(Fate::Done) }
    }

    async fn latency(&self) {
        let ms = locked(&self.dice).below(4);
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    /// A paused process sends nothing; what it was about to send may still go out when it goes on, whoever has given up on it.
    async fn sent(&self, process: &Process) -> bool {
        if !process.is_paused() {
            return !process.is_dead();
        }
        let goes_out = locked(&self.dice).permille(600);
        tokio::select! { biased; () = process.dead() => {} () = process.running() => {} }
        goes_out
    }

    fn long_delay(&self) -> Duration {
        Duration::from_millis(locked(&self.dice).between(500, 40_000))
    }
}

// MongoDB

/// One worker's way to the MongoDB server.
pub struct MongoDbLink {
    pub world: Arc<World>,
    pub process: Arc<Process>,
}

impl std::fmt::Debug for MongoDbLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MongoDbLink")
    }
}

impl mongodb_sink::Server for MongoDbLink {
    fn run(&self, command: RawDocumentBuf) -> BoxFuture<'_, mongodb::error::Result<RawDocumentBuf>> {
        self.request(command).boxed()
    }

    fn find(&self, command: RawDocumentBuf) -> BoxFuture<'_, mongodb::error::Result<mongodb_sink::Batches>> {
        async move {
            let reply = self.request(command).await?;
            let batch = mongodb_sink::Batch::of_array(reply.get_array("documents")?.as_bytes().to_vec());
            Ok(StreamExt::boxed(stream::iter([Ok(batch)])))
        }
        .boxed()
    }

    /// The simulated server is no router.
    fn find_in_config(&self, _: RawDocumentBuf) -> BoxFuture<'_, mongodb::error::Result<mongodb_sink::Batches>> {
        async { Ok(StreamExt::boxed(stream::empty())) }.boxed()
    }
}

fn broken() -> mongodb::error::Error {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

impl MongoDbLink {
    /// The server goes on with a request whether or not somebody still waits for the answer.
    async fn request(&self, command: RawDocumentBuf) -> mongodb::error::Result<RawDocumentBuf> {
        let (answer, answered) = oneshot::channel();
        let (world, process) = (Arc::clone(&self.world), Arc::clone(&self.process));
        self.world.spawn(async move {
            answer.send(world.serve_mongodb(&process, command).await).ok();
        });
        answered.await.unwrap_or_else(|_| Err(broken()))
    }
}

impl World {
    async fn serve_mongodb(&self, process: &Process, command: RawDocumentBuf) -> mongodb::error::Result<RawDocumentBuf> {
        let weather = self.weather(Store::MongoDb);
        let connection = weather.connection();
        let is_same = || weather.connection() == connection;
        if !self.sent(process).await || !is_same() {
            return Err(broken());
        }
        self.latency().await;
        if weather.is_down() || !is_same() {
            return Err(broken());
        }
        let fate = self.fate(Store::MongoDb);
        let Some(mut statements) = server::statements(&command) else {
            return match fate {
                Fate::Lost | Fate::Unanswered | Fate::Late => Err(broken()),
                _ => Ok(self.answer_mongodb(&command)),
            };
        };
        match fate {
            Fate::Lost => return Err(broken()),
            Fate::Late => {
                let number = self.put_off(connection, statements);
                tokio::time::sleep(self.long_delay()).await;
                if let Some(statements) = self.take_put_off(number) {
                    self.execute_mongodb(&statements.iter().collect::<Vec<_>>(), None);
                }
                return Err(broken());
            }
            Fate::Half => statements.truncate(statements.len() / 2),
            Fate::Done | Fate::Unanswered | Fate::AnsweredLate | Fate::Refused | Fate::Unconfirmed | Fate::Twice => {}
        }
        let refused = |n: usize| fate == Fate::Refused && (n % 2 == 1 || statements.len() == 1);
        let kept: Vec<&Statement> = statements.iter().enumerate().filter(|(n, _)| !refused(*n)).map(|(_, one)| one).collect();
        let found = self.look_first(&kept).await;
        if !is_same() {
            return Err(broken());
        }
        let mut done = self.execute_mongodb(&kept, found.as_deref()).into_iter();
        if fate == Fate::Twice {
            let number = self.put_off(connection, kept.into_iter().cloned().collect());
            let world = self.this();
            let delay = self.long_delay();
            self.spawn(async move {
                tokio::time::sleep(delay).await;
                if let Some(statements) = world.take_put_off(number) {
                    world.execute_mongodb(&statements.iter().collect::<Vec<_>>(), None);
                }
            });
        }
        if fate == Fate::AnsweredLate {
            tokio::time::sleep(WRITE_TIMEOUT * 2).await;
        }
        if matches!(fate, Fate::Half | Fate::Unanswered) || !is_same() {
            return Err(broken());
        }
        let (mut changed, mut inserted, mut errors) = (0, RawArrayBuf::new(), RawArrayBuf::new());
        for (index, statement) in statements.iter().enumerate() {
            let at = index as i32;
            let done = if refused(index) { None } else { done.next() };
            match done {
                None => errors.push(rawdoc! { "index": at, "code": 112, "codeName": "WriteConflict", "errmsg": "later" }),
                Some(Done::Collided) => {
                    errors.push(rawdoc! { "index": at, "code": 11000, "keyPattern": { "_id": 1 }, "errmsg": "E11000" });
                }
                Some(Done::Inserted) => {
                    changed += 1;
                    let mut one = rawdoc! { "index": at };
                    if let Some(id) = server::at(&statement.query, "_id") {
                        one.append(cstr!("_id"), id);
                    }
                    inserted.push(one);
                }
                Some(Done::Changed) => changed += 1,
                Some(Done::Nothing) => {}
            }
        }
        let mut reply = rawdoc! { "ok": 1.0, "n": changed };
        if !inserted.is_empty() {
            reply.append(cstr!("upserted"), inserted);
        }
        if !errors.is_empty() {
            reply.append(cstr!("writeErrors"), errors);
        }
        if fate == Fate::Unconfirmed {
            reply.append(cstr!("writeConcernError"), rawdoc! { "code": 64, "codeName": "WriteConcernTimeout" });
        }
        Ok(reply)
    }

    /// Between an upsert's look at the index and its insert another one may come. What the network holds back for one of the same keys
    /// comes just then.
    async fn look_first(&self, statements: &[&Statement]) -> Option<Vec<bool>> {
        if self.weather(Store::MongoDb).storm_permille.load(Ordering::Relaxed) == 0 || !locked(&self.dice).permille(800) {
            return None;
        }
        let found = {
            let mongodb = locked(&self.mongodb);
            statements.iter().map(|statement| mongodb.data.finds(statement)).collect()
        };
        match self.take_put_off_for(statements) {
            Some(late) => drop(self.execute_mongodb(&late.iter().collect::<Vec<_>>(), None)),
            None => self.latency().await,
        }
        Some(found)
    }

    fn answer_mongodb(&self, command: &RawDocumentBuf) -> RawDocumentBuf {
        let mongodb = locked(&self.mongodb);
        if server::at(command, "find").is_some() {
            return rawdoc! { "documents": mongodb.data.find(command) };
        }
        if server::at(command, "listCollections").is_some() {
            return rawdoc! { "documents": [] };
        }
        server::plain_reply(command, mongodb.run)
    }
}

// Redis

/// One worker's way to the Redis server.
pub struct RedisLink {
    pub world: Arc<World>,
    pub process: Arc<Process>,
}

impl redis_sink::Dial for RedisLink {
    fn dial(&self, server: ConnectionInfo, config: AsyncConnectionConfig) -> BoxFuture<'static, RedisResult<MultiplexedConnection>> {
        let (world, process) = (Arc::clone(&self.world), Arc::clone(&self.process));
        async move {
            process.running().await;
            world.latency().await;
            if world.weather(Store::Redis).is_down() {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
            }
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let serving = Arc::clone(&world);
            world.spawn(async move { serving.serve_redis(&process, theirs).await });
            let settings = server.redis_settings().clone().set_skip_set_lib_name();
            let (connection, driver) = MultiplexedConnection::new_with_config(&settings, ours, config).await?;
            world.spawn(driver);
            Ok(connection)
        }
        .boxed()
    }
}

impl World {
    /// One connection, until either side closes it.
    async fn serve_redis(&self, process: &Process, mut stream: DuplexStream) {
        tokio::select! {
            biased;
            () = self.weather(Store::Redis).broken.notified() => {}
            () = self.converse(process, &mut stream) => {}
        }
    }

    async fn converse(&self, process: &Process, stream: &mut DuplexStream) {
        let (mut arrived, mut out) = (Vec::new(), Vec::new());
        loop {
            match stream.read_buf(&mut arrived).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let commands = take_commands(&mut arrived);
            if commands.is_empty() {
                continue;
            }
            if !self.sent(process).await {
                return;
            }
            self.latency().await;
            if self.weather(Store::Redis).is_down() {
                return;
            }
            let fate = self.fate(Store::Redis);
            match fate {
                Fate::Lost => return,
                Fate::Half => return drop(self.execute_redis(commands.get(..commands.len() / 2).unwrap_or_default())),
                Fate::Late => {
                    // The client gives up on the connection; the server still has what was sent.
                    tokio::time::sleep(self.long_delay()).await;
                    return drop(self.execute_redis(&commands));
                }
                Fate::Done | Fate::Unanswered | Fate::AnsweredLate | Fate::Refused | Fate::Unconfirmed | Fate::Twice => {}
            }
            out.clear();
            for (n, command) in commands.iter().enumerate() {
                let refused = fate == Fate::Refused && (n % 2 == 1 || commands.len() == 1);
                let reply = if refused {
                    Reply::Error("LOADING Redis is loading the dataset in memory".to_owned())
                } else {
                    self.execute_redis(std::slice::from_ref(command)).pop().unwrap_or(Reply::Nil)
                };
                write_reply(&mut out, &reply);
            }
            match fate {
                Fate::Unanswered => return,
                Fate::AnsweredLate => tokio::time::sleep(WRITE_TIMEOUT * 2).await,
                Fate::Twice => {
                    let (world, delay) = (self.this(), self.long_delay());
                    let connection = self.weather(Store::Redis).connection();
                    self.spawn(async move {
                        tokio::time::sleep(delay).await;
                        if world.weather(Store::Redis).connection() == connection {
                            drop(world.execute_redis(&commands));
                        }
                    });
                }
                _ => {}
            }
            if stream.write_all(&out).await.is_err() {
                return;
            }
        }
    }
}
