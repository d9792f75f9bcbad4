//! The parts that talk to Kafka, against librdkafka's mock cluster; against a real broker where `STREAMSYNC_TEST_KAFKA` names one.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use streamsync::change::Tag;
use streamsync::config::*;
use streamsync::dead_letter::{DeadLetter, DeadLetterLog, DeadLetters, KafkaDeadLetters, LetterId, OMITTED_HEADER};
use streamsync::source::cluster::{CleanupPolicy, Cluster, UNKNOWN_ID};
use streamsync::source::outside::Outside;
use streamsync::source::{
    BatchLimits, CommittedPartition, KafkaSource, Lookup, PartitionReader, RecordBatch, Source as _, SourceEvent, StartAt, TopicPartition,
};
use tokio::sync::mpsc;

#[path = "kafka/commits.rs"]
mod commits;
#[path = "kafka/control.rs"]
mod control;
#[path = "kafka/idle.rs"]
mod idle;

const PATIENCE: Duration = Duration::from_secs(30);
const LIMITS: BatchLimits = BatchLimits { max_records: 100, max_bytes: 1 << 20, linger: Duration::from_millis(5) };

/// A cluster with one topic of two partitions, and names of its own.
struct Kafka {
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
    brokers: String,
    topic: String,
}

fn kafka() -> Kafka {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let topic = format!("shop.orders.{nanos}");
    if let Ok(brokers) = std::env::var("STREAMSYNC_TEST_KAFKA") {
        let kafka = Kafka { mock: None, brokers, topic };
        kafka.create_real();
        return kafka;
    }
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(&topic, 2, 1).unwrap();
    // The mock can't create topics by request, as a broker does.
    mock.create_topic(&format!("{topic}.dead"), 1, 1).unwrap();
    mock.create_topic(&format!("{topic}.control"), 1, 1).unwrap();
    Kafka { brokers: mock.bootstrap_servers(), mock: Some(mock), topic }
}

impl Kafka {
    fn create_real(&self) {
        use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
        let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        let new = NewTopic::new(&self.topic, 2, TopicReplication::Fixed(1));
        let created =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(admin.create_topics([&new], &AdminOptions::new())));
        assert!(created.unwrap()[0].is_ok());
    }

    fn source(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), partition)
    }

    fn settings(&self) -> Settings {
        let route = RouteSettings {
            name: "orders".into(),
            topic: self.topic.clone(),
            database: "shop".into(),
            table: "orders".into(),
            format: Format::Json {
                columns: vec![DeclaredColumn {
                    name: "id".into(),
                    source_type: "int".into(),
                    tag: Tag::Int,
                    wire: Wire::Integer,
                    nullable: false,
                    length: None,
                    scale: None,
                }],
            },
            transform: TransformSettings {
                module: "orders.wasm".into(),
                sha256: None,
                signature_key: None,
                config: "{}".into(),
                call_timeout: Duration::from_secs(1),
                max_memory_bytes: 1 << 20,
                max_output_bytes: 1 << 20,
                max_log_lines: 10,
                max_failures: 100,
                shadow: None,
            },
            targets: Vec::new(),
            on_truncate: OnTruncate::Halt,
        };
        Settings {
            kafka: KafkaSettings {
                brokers: self.brokers.clone(),
                group: format!("{}.group", self.topic),
                control_topic: format!("{}.control", self.topic),
                replication_factor: Some(1),
                accept_truncated_log: false,
                commit_interval: Duration::from_secs(1),
                max_poll_interval: Duration::from_secs(60),
                queued_max_bytes: 1 << 20,
                // The mock lets the next member in only when the last one's session would be over, also after it has left.
                properties: vec![("session.timeout.ms".into(), "6000".into())],
            },
            batch: BatchSettings { max_records: 100, max_bytes: 1 << 20, linger: LIMITS.linger, prepared_ahead: 1 },
            retry: RetrySettings { initial: Duration::from_millis(10), max: Duration::from_secs(1), jitter_seed: None },
            drain_timeout: Duration::from_secs(5),
            loss_check_interval: Duration::from_secs(5),
            http: HttpSettings { listen: "127.0.0.1:0".parse().unwrap(), stalled_after: Duration::from_secs(60), token: None },
            dead_letters: DeadLetterSettings { topic: format!("{}.dead", self.topic), max_per_minute: 10, max_bytes: 1000 },
            transforms: TransformHostSettings { cache_dir: None, max_instances: 1, watch: None, pulls: PullSettings::default() },
            sinks: Vec::new(),
            routes: vec![Arc::new(route)],
            passed_over_topics: Vec::new(),
            directory: std::path::PathBuf::new(),
        }
    }

    async fn produce(&self, partition: i32, values: std::ops::Range<usize>) {
        let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        for value in values {
            let (key, value) = (format!("k{value}"), format!("v{value}"));
            producer.send(FutureRecord::to(&self.topic).partition(partition).key(&key).payload(&value), PATIENCE).await.unwrap();
        }
    }
}

/// A worker's source with its events.
struct Member {
    source: Arc<KafkaSource>,
    events: mpsc::Receiver<SourceEvent>,
}

impl Member {
    fn join(settings: &Settings) -> Self {
        let (sender, events) = mpsc::channel(16);
        Self { source: KafkaSource::start(settings, sender).unwrap(), events }
    }

    async fn next(&mut self) -> Option<SourceEvent> {
        loop {
            match tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time") {
                Some(SourceEvent::Statistics(_) | SourceEvent::Fault(streamsync::source::Error::Away { .. })) => {}
                event => return event,
            }
        }
    }

    /// The partitions of the next assignment, and what is known of them.
    async fn assigned(&mut self) -> Vec<CommittedPartition> {
        let Some(SourceEvent::Assigned { mut partitions }) = self.next().await else { panic!("no assignment") };
        partitions.sort();
        let mut known = Vec::new();
        for source in &partitions {
            known.push(self.source.look(source).await.expect("an answer").expect("this worker's"));
        }
        known
    }

    async fn read(&self, source: TopicPartition, offset: i64) -> Box<dyn PartitionReader> {
        self.source.read(StartAt { source, offset }).await.expect("an answer").expect("this worker's")
    }

    async fn leave(mut self) {
        self.source.stop();
        while let Some(event) = self.next().await {
            if let SourceEvent::Revoked { done, .. } = event {
                done.send(());
            }
        }
    }
}

async fn read(reader: &mut Box<dyn PartitionReader>, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let batch = tokio::time::timeout(PATIENCE, reader.next_batch(LIMITS)).await.expect("a batch in time").unwrap().expect("open");
        for (index, record) in batch.records.iter().enumerate() {
            assert_eq!(batch.key(index).map(<[u8]>::first), Some(Some(&b'k')));
            offsets.push(record.offset);
        }
    }
    offsets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_worker_resumes_at_its_commit() {
    let kafka = kafka();
    kafka.produce(0, 0..250).await;
    kafka.produce(1, 0..10).await;
    let settings = kafka.settings();

    let mut member = Member::join(&settings);
    let partitions = member.assigned().await;
    let known: Vec<_> = partitions.iter().map(|p| (p.source.partition, p.committed, p.low, p.high)).collect();
    assert_eq!(known, [(0, None, 0, 250), (1, None, 0, 10)]);
    let mut first = member.read(kafka.source(0), 0).await;
    let mut second = member.read(kafka.source(1), 0).await;
    assert_eq!(read(&mut first, 250).await, (0..250).collect::<Vec<_>>());
    assert_eq!(read(&mut second, 10).await, (0..10).collect::<Vec<_>>());
    assert!(member.source.last_poll_age() < Duration::from_secs(5));
    let (commits, source) = (member.source.commits(), Arc::clone(&member.source));
    // Told to stop, it is a member until what it has is settled.
    source.stop();
    let Some(SourceEvent::Revoked { partitions, lost: false, done }) = member.next().await else { panic!("its partitions stay") };
    assert_eq!(partitions.len(), 2);
    commits.commit(&kafka.source(0), 200).await.unwrap();
    done.send(());
    member.leave().await;
    assert!(source.look(&kafka.source(0)).await.unwrap().is_none());
    assert!(source.read(StartAt { source: kafka.source(0), offset: 0 }).await.unwrap().is_none());
    assert!(first.next_batch(LIMITS).await.unwrap().is_none(), "the reader has ended");
    assert!(matches!(commits.commit(&kafka.source(0), 220).await, Err(streamsync::commit::Error::Lost { .. })));

    let mut member = Member::join(&settings);
    let partitions = member.assigned().await;
    assert_eq!(partitions.iter().find(|p| p.source.partition == 0).unwrap().committed, Some(200));
    let mut first = member.read(kafka.source(0), 200).await;
    assert_eq!(read(&mut first, 50).await, (200..250).collect::<Vec<_>>());
    // An idle partition wakes up by itself.
    kafka.produce(0, 250..251).await;
    assert_eq!(read(&mut first, 1).await, [250]);
    member.leave().await;
}

/// What no patience mends is told as such, with its remedy; the rest is asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_may_not_be_asked_needs_the_operator() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};
    let kafka = kafka();
    // A broker's answers can't be chosen.
    let Some(mock) = &kafka.mock else { return };
    let mut member = Member::join(&kafka.settings());
    member.assigned().await;
    mock.request_errors(RDKafkaApiKey::OffsetFetch, &[Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]);
    let error = member.source.look(&kafka.source(0)).await.expect_err("refused");
    assert!(matches!(error, streamsync::source::Error::Setup { .. }), "{error}");
    assert!(error.to_string().contains("permit READ on the consumer group"), "{error}");
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_keeps_its_limits_and_a_dropped_wait_loses_nothing() {
    let kafka = kafka();
    kafka.produce(0, 0..30).await;
    let mut member = Member::join(&kafka.settings());
    member.assigned().await;
    let mut reader = member.read(kafka.source(0), 0).await;
    let limits = BatchLimits { max_records: 7, max_bytes: 12, linger: Duration::from_millis(200) };
    let mut offsets = Vec::new();
    while offsets.len() < 30 {
        // Waits that are given up at once, over and over.
        let Ok(batch) = tokio::time::timeout(Duration::from_micros(50), reader.next_batch(limits)).await else { continue };
        let batch = batch.unwrap().unwrap();
        assert!(batch.records.len() <= 7 && batch.bytes.len() <= 12, "{batch:?}");
        offsets.extend(batch.records.iter().map(|r| r.offset));
    }
    assert_eq!(offsets, (0..30).collect::<Vec<_>>());
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_read_when_it_is_asked_for_and_holds_up_no_other() {
    let kafka = kafka();
    kafka.produce(0, 0..3).await;
    kafka.produce(1, 0..3).await;
    let mut member = Member::join(&kafka.settings());
    member.assigned().await;
    let mut second = member.read(kafka.source(1), 1).await;
    assert_eq!(read(&mut second, 2).await, [1, 2]);
    // The other one waited for a store, which is back.
    let mut first = member.read(kafka.source(0), 2).await;
    assert_eq!(read(&mut first, 1).await, [2]);
    member.leave().await;
}

/// A sink lost data: the partition goes back, also to what was fetched and not read, and to what lies before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_read_anew_begins_exactly_there() {
    let kafka = kafka();
    kafka.produce(0, 0..2_000).await;
    kafka.produce(1, 0..10).await;
    let mut member = Member::join(&kafka.settings());
    member.assigned().await;
    let mut other = member.read(kafka.source(1), 0).await;
    let mut earlier = member.read(kafka.source(0), 0).await;
    for from in [0, 1_500, 700, 1_600, 0, 3, 1_999] {
        // Read on a little, so that more is fetched than was read. A batch may hold more than was asked for, which leaves enough of each.
        read(&mut earlier, 50).await;
        let mut anew = member.read(kafka.source(0), from).await;
        assert!(earlier.next_batch(LIMITS).await.unwrap().is_none(), "the earlier reader has ended");
        let expected: Vec<i64> = (from..2_000).take(100).collect();
        assert_eq!(read(&mut anew, expected.len()).await[..expected.len()], expected);
        earlier = anew;
    }
    assert_eq!(read(&mut other, 10).await, (0..10).collect::<Vec<_>>());
    member.source.commits().commit(&kafka.source(0), 5).await.unwrap();
    member.leave().await;
}

/// What an operator's commands ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_is_seen_from_outside() {
    let kafka = kafka();
    kafka.produce(0, 0..20).await;
    let (settings, topic) = (kafka.settings(), kafka.topic.clone());
    let set = settings.clone();
    let before = tokio::task::spawn_blocking(move || {
        let outside = Outside::new(&set).unwrap();
        assert!(outside.commit(&topic, &[7, 0]).unwrap());
        let partitions = outside.partitions(&topic, 2).unwrap();
        let lookup = Lookup::new(&set).unwrap();
        let ends: Vec<i64> = partitions.iter().map(|partition| lookup.end_of_records(partition).unwrap()).collect();
        (partitions, ends)
    });
    let (partitions, ends) = before.await.unwrap();
    let known: Vec<_> = partitions.iter().map(|p| (p.source.partition, p.committed, p.low, p.high)).collect();
    assert_eq!((known, ends), (vec![(0, Some(7), 0, 20), (1, Some(0), 0, 0)], vec![20, 0]));
    let mut member = Member::join(&settings);
    let seen_inside = member.assigned().await;
    assert_eq!(seen_inside.first().and_then(|p| p.committed), Some(7));
    // The mock cluster does not describe groups; a broker names the member, until it has left.
    if kafka.mock.is_some() {
        return member.leave().await;
    }
    let members = async || {
        let settings = settings.clone();
        tokio::task::spawn_blocking(move || Outside::new(&settings).unwrap().members().unwrap()).await.unwrap()
    };
    let joined = members().await;
    assert_eq!(joined.len(), 1, "{joined:?}");
    assert!(joined[0].reads(&kafka.topic) && !joined[0].reads("another"), "{joined:?}");
    member.leave().await;
    let left = members().await;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_outside_of_the_log_is_told_and_never_reset() {
    let kafka = kafka();
    kafka.produce(0, 0..3).await;
    let mut member = Member::join(&kafka.settings());
    member.assigned().await;
    let mut reader = member.read(kafka.source(0), 1000).await;
    let error = tokio::time::timeout(PATIENCE, reader.next_batch(LIMITS)).await.unwrap().unwrap_err();
    assert!(matches!(error, streamsync::source::Error::OffsetLost { .. }), "{error}");
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_tells_what_it_knows_of_a_topic() {
    let kafka = kafka();
    let (settings, topic) = (kafka.settings(), kafka.topic.clone());
    let facts = tokio::task::spawn_blocking(move || {
        let cluster = Cluster::new(&settings).unwrap();
        assert!(matches!(cluster.facts("absent"), Err(streamsync::source::Error::Away { .. })));
        cluster.facts(&topic)
    });
    match (facts.await.unwrap(), kafka.mock.is_some()) {
        (Ok(facts), false) => {
            assert_eq!((facts.partitions, facts.cleanup_policy), (2, CleanupPolicy::DELETE));
            assert_ne!(facts.topic_id, UNKNOWN_ID);
        }
        // A mock cluster has no controller, which librdkafka asks for the id. That nobody answers must not be taken for "it has none".
        (Err(streamsync::source::Error::Away { message }), true) => assert!(message.contains("does not tell its id"), "{message}"),
        (other, _) => panic!("{other:?}"),
    }
}

fn letter(record: u32) -> DeadLetter {
    DeadLetter {
        record,
        route: "orders".into(),
        stage: "decode".into(),
        code: "json".into(),
        message: "not JSON".into(),
        module: "abc".into(),
        fence: 7,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_keep_their_record_or_a_reference_to_it() {
    let kafka = kafka();
    let settings = kafka.settings();
    let letters = KafkaDeadLetters::new(&settings).unwrap();
    let mut batch = RecordBatch::new(kafka.source(1));
    batch.push(41, Some(5), Some(b"k"), Some(b"\xff{"), [("h", Some(&b"x"[..]))]).unwrap();
    batch.push(42, None, Some(b"k"), Some(&[b'x'; 2000]), []).unwrap();
    batch.push(43, None, None, None, []).unwrap();
    letters.send(&batch, &[letter(0), letter(1), letter(2)]).await.unwrap();

    let read = tokio::task::spawn_blocking(move || read_letters(&settings)).await.unwrap();
    let header = |index: usize, name: &str| read[index].2.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    assert_eq!((&read[0].0, &read[0].1), (&Some(b"k".to_vec()), &Some(b"\xff{".to_vec())));
    assert_eq!((&read[1].0, &read[1].1), (&None, &None));
    assert_eq!(header(0, "h").as_deref(), Some("x"));
    assert_eq!(header(0, "streamsync.offset").as_deref(), Some("41"));
    assert_eq!(header(0, "streamsync.timestamp").as_deref(), Some("5"));
    assert_eq!(header(0, "streamsync.code").as_deref(), Some("json"));
    assert_eq!(header(0, "streamsync.fence").as_deref(), Some("7"));
    assert_eq!(header(0, OMITTED_HEADER), None);
    assert_eq!(header(1, OMITTED_HEADER).as_deref(), Some("2001"));
    assert_eq!(header(1, "streamsync.offset").as_deref(), Some("42"));
    assert_eq!(header(2, "streamsync.offset").as_deref(), Some("43"));
}

type Letter = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, String)>);

fn read_letters(settings: &Settings) -> Vec<Letter> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.kafka.brokers).set("group.id", "letters").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&settings.dead_letters.topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut letters: Vec<Letter> = Vec::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    while letters.len() < 3 {
        assert!(std::time::Instant::now() < deadline, "letters in time");
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let headers = message.headers().unwrap().iter();
        let headers = headers.map(|h| (h.key.to_owned(), String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned())).collect();
        letters.push((message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec), headers));
    }
    letters.sort_by_key(|(_, _, headers)| headers.iter().find(|(n, _)| n == "streamsync.offset").map(|(_, v)| v.clone()));
    letters
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_of_a_topic_is_read_and_nobody_s_position_moves() {
    use streamsync::source::tail::{self, Piece};
    let kafka = kafka();
    kafka.produce(0, 0..30).await;
    kafka.produce(1, 0..5).await;
    let read = |piece, max| {
        let (settings, topic) = (kafka.settings(), kafka.topic.clone());
        tokio::task::spawn_blocking(move || tail::read(&settings, &topic, piece, max))
    };
    let offsets = |events: &[streamsync::recording::RecordedEvent], partition| {
        events.iter().filter(|event| event.partition == partition).map(|event| event.offset).collect::<Vec<_>>()
    };
    let last = read(Piece::Last(20), 1000).await.unwrap().unwrap();
    assert_eq!(last.len(), 20);
    assert!(last.is_sorted_by_key(|event| (event.timestamp_ms, event.partition, event.offset)));
    assert_eq!(offsets(&last, 1), [0, 1, 2, 3, 4], "the last ones by time");
    assert_eq!(offsets(&last, 0), (15..30).collect::<Vec<_>>());
    let all = read(Piece::Last(500), 1000).await.unwrap().unwrap();
    assert_eq!(all.len(), 35);
    let from = read(Piece::From { offset: 3, partition: None }, 1000).await.unwrap().unwrap();
    assert_eq!((offsets(&from, 0), offsets(&from, 1)), ((3..30).collect(), vec![3, 4]));
    let of_one = read(Piece::From { offset: 28, partition: Some(0) }, 1).await.unwrap().unwrap();
    assert_eq!(offsets(&of_one, 0), [28], "no more than asked for, from there on");
    for (piece, expected) in [
        (Piece::From { offset: 31, partition: Some(0) }, "has the offsets 0 to 30, not 31"),
        (Piece::From { offset: 0, partition: Some(2) }, "has no partition 2"),
    ] {
        let error = read(piece, 10).await.unwrap().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let settings = kafka.settings();
    let missing = tokio::task::spawn_blocking(move || tail::read(&settings, "nowhere", Piece::Last(1), 1)).await.unwrap();
    assert!(missing.unwrap_err().to_string().contains("there is no topic nowhere"));
}

/// `streamsync LINE` with the configuration; its stdout.
fn streamsync(dir: &std::path::Path, line: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_streamsync"));
    // The program takes variables that begin with STREAMSYNC_ for settings: those of the tests are not for it.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STREAMSYNC_")) {
        command.env_remove(name);
    }
    let run = command.current_dir(dir).args(line.split(' ')).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&run.stdout).into_owned(), String::from_utf8_lossy(&run.stderr).into_owned());
    assert!(run.status.success(), "{line}: {out}{errors}");
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_live_topic_are_captured_and_tried_with_another_module() {
    let kafka = kafka();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = root.join("tests/fixtures/contract-0.1.0");
    let text = std::fs::read_to_string(fixtures.join("orders.events.jsonl")).unwrap();
    let events = streamsync::recording::parse(&text).unwrap();
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().unwrap();
    for event in &events {
        let record = FutureRecord::to(&kafka.topic).partition(0).key(event.key.as_deref().unwrap_or_default());
        let record = match &event.value {
            Some(value) => record.payload(value.as_slice()),
            None => record,
        };
        producer.send(record, PATIENCE).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "[kafka]\nbrokers = {:?}\ngroup = \"g\"\n[sinks.redis]\nkind = \"redis\"\nurl = \"redis://localhost\"\n\
         [[routes]]\nname = \"orders\"\ntopic = {:?}\ntable = \"ecommerce.orders\"\nformat = \"json-with-schema\"\n\
         [routes.transform]\nmodule = {:?}\n[routes.targets.redis]\nsink = \"redis\"\nprefix = \"orders\"\n",
        kafka.brokers,
        kafka.topic,
        fixtures.join("orders.wasm")
    );
    std::fs::write(dir.path().join("streamsync.toml"), config).unwrap();
    streamsync(dir.path(), "capture --route orders --last 5 --out events.jsonl");
    let captured = streamsync::recording::parse(&std::fs::read_to_string(dir.path().join("events.jsonl")).unwrap()).unwrap();
    let content =
        |events: &[streamsync::recording::RecordedEvent]| events.iter().map(|e| (e.key.clone(), e.value.clone())).collect::<Vec<_>>();
    assert_eq!(content(&captured), content(&events[events.len() - 5..]));
    let preview =
        |module: &str| streamsync(dir.path(), &format!("transform preview --route orders --module {}", fixtures.join(module).display()));
    let same = preview("orders.wasm");
    assert!(same.contains("0 of 8 outcomes would differ") && same.contains("nothing is written"), "{same}");
    let other = preview("customers.wasm");
    assert!(other.contains("total_minor") && other.contains("fault transform open-failed"), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_found_again_with_their_records_and_notes() {
    let kafka = kafka();
    kafka.produce(0, 0..3).await;
    let mut settings = kafka.settings();
    settings.dead_letters.max_bytes = 100;
    let letters = KafkaDeadLetters::new(&settings).unwrap();
    let log = DeadLetterLog::new(&settings).unwrap();
    let mut batch = RecordBatch::new(kafka.source(0));
    batch.push(0, Some(5), Some(b"k"), Some(b"v"), [("h", Some(&b"x"[..]))]).unwrap();
    // Too large for a letter: the topic itself has the record. The last one is no longer there.
    batch.push(1, None, Some(b"k1"), Some(&[b'x'; 200]), []).unwrap();
    batch.push(9, None, Some(b"k9"), Some(&[b'x'; 200]), []).unwrap();
    for record in 0..3 {
        letters.send(&batch, &[DeadLetter { fence: (1 << 48) + i64::from(record), ..letter(record) }]).await.unwrap();
    }
    let found = log.letters(|letter| letter.route == "orders").await.unwrap();
    assert_eq!(found.iter().map(|letter| (letter.id.offset, letter.offset)).collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 9)]);
    assert!(found.iter().all(|letter| letter.closed.is_none() && letter.source == kafka.source(0) && letter.fence.is_some()));
    assert_eq!(found.iter().map(|letter| letter.omitted_bytes.is_some()).collect::<Vec<_>>(), [false, true, true]);
    let record = log.record(&found[0]).await.unwrap().expect("the letter has it");
    assert_eq!((record.key(0), record.value(0), &record.source), (Some(&b"k"[..]), Some(&b"v"[..]), &kafka.source(0)));
    assert_eq!((record.records[0].offset, record.records[0].timestamp_ms), (0, Some(5)));
    assert_eq!(record.headers(0).collect::<Vec<_>>(), [("h", Some(&b"x"[..]))]);
    let record = log.record(&found[1]).await.unwrap().expect("its own topic has it");
    assert_eq!((record.records[0].offset, record.value(0)), (1, Some(&b"v1"[..])));
    assert_eq!(log.record(&found[2]).await.unwrap(), None);
    // Another record at the offset of a reference: the topic was created again.
    let mut other = found[1].clone();
    other.timestamp_ms = Some(1);
    assert_eq!(log.record(&other).await.unwrap(), None);

    letters.close(found[1].id, "applied").await.unwrap();
    let found = log.letters(|_| true).await.unwrap();
    assert_eq!(found.iter().map(|letter| letter.closed.as_ref().map(|c| &*c.outcome)).collect::<Vec<_>>(), [None, Some("applied"), None]);
    let chosen = log.letters(|letter| letter.id == LetterId { partition: 0, offset: 2 }).await.unwrap();
    assert_eq!(chosen.len(), 1);
    assert!(log.letters(|letter| letter.route == "other").await.unwrap().is_empty());
}

/// What librdkafka can't unpack within its limit it goes on behind: the reader must not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_unpacks_beyond_the_limit_halts_and_is_not_passed_over() {
    let kafka = kafka();
    let mut settings = kafka.settings();
    settings.kafka.properties.push(("receive.message.max.bytes".into(), (9 << 20).to_string()));
    kafka.produce(0, 0..1).await;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.brokers).set("compression.codec", "zstd").set("message.max.bytes", "100000000");
    let producer: FutureProducer = config.create().unwrap();
    let bomb = vec![0; 20 << 20];
    producer.send(FutureRecord::to(&kafka.topic).partition(0).key("k").payload(&bomb), PATIENCE).await.unwrap();
    kafka.produce(0, 1..2).await;
    let mut member = Member::join(&settings);
    member.assigned().await;
    let mut reader = member.read(kafka.source(0), 0).await;
    let mut offsets = Vec::new();
    let error = loop {
        match tokio::time::timeout(PATIENCE, reader.next_batch(LIMITS)).await.expect("an answer in time") {
            Ok(batch) => offsets.extend(batch.expect("open").records.iter().map(|record| record.offset)),
            Err(error) => break error,
        }
    };
    assert_eq!(offsets, [0], "what comes behind is not read");
    assert_eq!(streamsync::disposition::of_source(&error), streamsync::disposition::Disposition::Halt, "{error}");
    assert!(error.to_string().contains("receive.message.max.bytes"), "{error}");
    member.leave().await;
}
