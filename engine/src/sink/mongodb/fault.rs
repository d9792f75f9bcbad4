//! What went wrong, by the driver's labels and the server's codes; never by texts, and never with them where they may hold values of
//! a row: "E11000 … dup key: { email: … }", "not authorized to execute command { update: …, updates: [ … ] }".
//!
//! Codes are those of MongoDB's `src/mongo/base/error_codes.yml`.

use std::error::Error as _;

use mongodb::error::{Error as DriverError, ErrorKind};

use super::bson_bytes::{Elements, Value};
use crate::sink::Error;

/// What went wrong, before it is said for one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The outcome is unknown.
    Away(String),
    /// The server takes no writes until an operator helps.
    Full(String),
    /// This write can't be stored.
    Refused(&'static str, String),
    /// See [`Error::OtherPartition`].
    OtherPartition { stored: i32, incoming: i32 },
    /// Credentials, rights, set-up.
    Setup(String),
}

impl Fault {
    /// The same for one write to a collection.
    pub(super) fn into_error(self, sink: &str, place: &str) -> Error {
        let sink = sink.to_owned();
        match self {
            Self::Away(message) => Error::Away { sink, message },
            Self::Full(message) => Error::Full { sink, message },
            Self::Refused(code, message) => Error::Refused { sink, place: place.to_owned(), code, message },
            Self::OtherPartition { stored, incoming } => Error::OtherPartition { sink, place: place.to_owned(), stored, incoming },
            Self::Setup(message) => Error::Setup { sink, message },
        }
    }

    /// Whether it says something of the store as a whole, so that there is no point in sending the next chunk.
    pub(super) fn is_of_the_store(&self) -> bool {
        match self {
            Self::Away(_) | Self::Full(_) | Self::Setup(_) => true,
            Self::Refused(..) | Self::OtherPartition { .. } => false,
        }
    }

    /// Of a command that failed as a whole. `what` says what was tried, as "update shop.orders".
    #[expect(clippy::wildcard_enum_match_arm, reason = "the driver's list is open, and whatever it does not know of is tried again")]
    pub(super) fn of_driver(what: &str, error: &DriverError) -> Self {
        match error.kind.as_ref() {
            ErrorKind::Command(command) if error.contains_label(mongodb::error::RETRYABLE_WRITE_ERROR) => {
                Self::Away(format!("{what}: {}", named(command.code, &command.code_name)))
            }
            ErrorKind::Command(command) => Self::of_code(what, command.code, &command.code_name),
            ErrorKind::Authentication { .. } => Self::of_authentication(what, error),
            ErrorKind::InvalidArgument { message, .. } => Self::Setup(format!("{what}: the driver refuses the sink's settings: {message}")),
            ErrorKind::InvalidTlsConfig { message, .. } => Self::Setup(format!("{what}: TLS in the sink's uri: {message}")),
            ErrorKind::IncompatibleServer { message, .. } => {
                Self::Setup(format!("{what}: {message}; MongoDB 5.0 or a compatible server is needed"))
            }
            // So does the driver refuse a server that is too old for itself.
            ErrorKind::ServerSelection { message, .. } if message.contains("wire version") => {
                Self::Setup(format!("{what}: {message}; MongoDB 5.0 or a compatible server is needed"))
            }
            ErrorKind::Io(io) => Self::Away(format!("{what}: {}", with_authorities(io.to_string()))),
            ErrorKind::ServerSelection { message, .. }
            | ErrorKind::ConnectionPoolCleared { message, .. }
            | ErrorKind::DnsResolve { message, .. } => Self::Away(format!("{what}: {}", with_authorities(message.clone()))),
            _ => Self::Away(format!("{what}: the server's answer was not understood")),
        }
    }

    /// The driver calls each failed step of a log-in an authentication error; the code that the server gave lies beneath. One that passes,
    /// as a server's that is shutting down, says nothing of the password.
    fn of_authentication(what: &str, error: &DriverError) -> Self {
        let beneath = error.source().and_then(|source| {
            source.downcast_ref::<DriverError>().or_else(|| source.downcast_ref::<Box<DriverError>>().map(AsRef::as_ref))
        });
        let said = match beneath.map(|error| error.kind.as_ref()) {
            Some(ErrorKind::Command(command)) => {
                let named = named(command.code, &command.code_name);
                if TRANSIENT.contains(&command.code) {
                    return Self::Away(format!("{what}: the server takes no log-in: {named}"));
                }
                format!(": {named}")
            }
            _ => String::new(),
        };
        Self::Setup(format!("{what}: authentication failed{said}; check user, password, authSource and authMechanism in the sink's uri"))
    }

    /// Of a code that failed a whole command: what is not known to be one write's fault is retried.
    pub(super) fn of_code(what: &str, code: i32, code_name: &str) -> Self {
        let named = named(code, code_name);
        if OUT_OF_SPACE.contains(&code) {
            return Self::Full(format!("{what}: {named}; free or add disk space, or lift the block on writes"));
        }
        if UNAUTHORIZED.contains(&code) {
            return Self::Setup(format!(
                "{what}: {named}; check the user in the sink's uri and grant it readWrite and dbAdmin on the sink's database"
            ));
        }
        if UNFIT.contains(&code) {
            return Self::Setup(format!("{what}: {named}; the server or the collection is not fit for this sink"));
        }
        match refusal(code) {
            Some(label) => Self::Refused(label, format!("{what}: {named}")),
            None => Self::Away(format!("{what}: {named}")),
        }
    }

    /// Of an element of `writeErrors` that stands alone. `None`: E11000 on `_id`, which says nothing yet.
    pub(super) fn of_write_error(what: &str, error: Value<'_>) -> Option<Self> {
        Self::of_statement(what, error, false)
    }

    /// The same where the statement is the engine's own: no record is at fault, so a code that is not known is tried again.
    pub(super) fn of_own_write_error(what: &str, error: Value<'_>) -> Option<Self> {
        Self::of_statement(what, error, true)
    }

    fn of_statement(what: &str, error: Value<'_>, passes: bool) -> Option<Self> {
        match WriteError::of(what, error) {
            WriteError::Collision => None,
            WriteError::Known(fault) => Some(fault),
            WriteError::Unknown(_, message) => Some(Self::of_unknown(passes, message)),
        }
    }

    /// Of a code that is not known, where the server gave it to one write alone, or may mean that it passes.
    pub(super) fn of_unknown(passes: bool, message: String) -> Self {
        if passes { Self::Away(message) } else { Self::Refused("server-error", message) }
    }

    /// Of a reply's `writeConcernError`: the writes are done here and may be lost in a failover, so their outcome is unknown.
    pub(super) fn of_write_concern_error(what: &str, error: Value<'_>) -> Self {
        let code = error.elements().find("code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
        let code_name = error.elements().find("codeName").and_then(Value::as_text).unwrap_or_default();
        Self::Away(format!("{what}: no majority has acknowledged the write: {}", named(code, code_name)))
    }
}

/// Adds whom the driver trusts to what it says of a server's certificate. It may be renewed while the sink waits: that is no set-up.
fn with_authorities(message: String) -> String {
    if !message.contains("invalid peer certificate") {
        return message;
    }
    format!(
        "{message}; the driver trusts Mozilla's authorities and not the system's: name the one that signed the server's certificate with \
         tlsCAFile in the sink's uri, and the server as its certificate does"
    )
}

/// An element of `writeErrors`.
#[derive(Clone, Debug)]
pub(super) enum WriteError {
    /// E11000 on `_id`, which says nothing yet.
    Collision,
    /// A code that says what is at fault.
    Known(Fault),
    /// A code of which it is not known whether it passes, and what to say of it.
    Unknown(i32, String),
}

impl WriteError {
    pub(super) fn of(what: &str, error: Value<'_>) -> Self {
        let code = error.elements().find("code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
        if DUPLICATE_KEY.contains(&code) {
            return match index_name(error.elements()) {
                index if index == "_id_" => Self::Collision,
                index => {
                    let message = format!("another document has the same values in the unique index {index}");
                    Self::Known(Fault::Refused("duplicate-key", message))
                }
            };
        }
        let code_name = error.elements().find("codeName").and_then(Value::as_text).unwrap_or_default();
        match Fault::of_code(what, code, code_name) {
            Fault::Away(message) if !TRANSIENT.contains(&code) => Self::Unknown(code, message),
            fault @ (Fault::Away(_) | Fault::Full(_) | Fault::Refused(..) | Fault::OtherPartition { .. } | Fault::Setup(_)) => {
                Self::Known(fault)
            }
        }
    }
}

fn named(code: i32, code_name: &str) -> String {
    if code_name.is_empty() { format!("error {code}") } else { format!("error {code} {code_name}") }
}

/// The index of an E11000. Its name stands in the message before the values; where a server words it otherwise, `keyPattern` names
/// the fields.
fn index_name(error: Elements<'_>) -> String {
    let message = error.clone().find("errmsg").and_then(Value::as_text).unwrap_or_default();
    let before_values = message.split(" dup key:").next().unwrap_or_default();
    if let Some(name) = before_values.rsplit_once("index: ").map(|(_, name)| name.trim()) {
        return name.to_owned();
    }
    let fields: Vec<_> = error
        .find("keyPattern")
        .map(|pattern| pattern.elements().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect())
        .unwrap_or_default();
    if fields == ["_id"] { "_id_".to_owned() } else { fields.join("_") }
}

const DUPLICATE_KEY: [i32; 3] = [11000, 11001, 12582];

/// OutOfDiskSpace, UserWritesBlocked, and 8000 of Atlas: over the space quota.
const OUT_OF_SPACE: [i32; 3] = [14031, 371, 8000];

/// UserNotFound, Unauthorized, AuthenticationFailed, RoleNotFound, ProtocolError of an unauthenticated connection.
const UNAUTHORIZED: [i32; 4] = [11, 13, 18, 31];

/// IllegalOperation, CommandNotFound, ShardKeyNotFound, InvalidNamespace, UnknownReplWriteConcern, UnsatisfiableWriteConcern,
/// CommandNotSupported, NotAReplicaSet, CommandNotSupportedOnView, OptionNotSupportedOnView, APIVersionError, APIStrictError,
/// APIDeprecationError, CannotGrowDocumentInCappedNamespace, DatabaseDifferCase, UnsupportedFormat, and those of a server that does not
/// know a command's fields: FailedToParse, InvalidOptions, Location40414, Location40415.
const UNFIT: [i32; 20] = [20, 59, 61, 73, 79, 100, 115, 123, 166, 167, 322, 323, 324, 10003, 13297, 12, 9, 72, 40414, 40415];

/// Codes that pass: the network, a failover, a shutdown, a lock, a time limit, a moved chunk, a server that has too much to do. A router
/// hands on what a shard answered, to each write that it had for this shard. 16500 is Azure's, over the throughput that was paid for.
const TRANSIENT: [i32; 111] = [
    6, 7, 24, 43, 46, 50, 63, 64, 70, 71, 82, 83, 89, 90, 91, 94, 107, 109, 112, 117, 133, 134, 136, 141, 145, 146, 149, 150, 172, 175,
    189, 199, 202, 203, 211, 215, 216, 225, 234, 237, 239, 245, 246, 249, 250, 251, 261, 262, 264, 267, 272, 279, 281, 282, 290, 303, 304,
    314, 317, 319, 320, 321, 325, 328, 329, 333, 338, 342, 343, 355, 358, 360, 363, 365, 372, 374, 375, 379, 382, 384, 391, 398, 402, 406,
    407, 412, 413, 414, 433, 445, 449, 450, 453, 462, 9001, 10058, 10107, 11600, 11601, 11602, 12586, 12587, 13388, 13435, 13436, 16500,
    46841, 50915, 56846, 91331, 10045600,
];

/// The label of a code that is one write's own fault.
fn refusal(code: i32) -> Option<&'static str> {
    Some(match code {
        121 => "document-validation",
        10334 | 17419 | 17420 => "too-large",
        15 => "too-deep",
        66 => "immutable-field",
        52 | 53 | 55 | 56 | 57 => "field-name",
        67 | 171 | 16755 | 16804 | 17280 => "index",
        2 | 14 | 22 => "bad-value",
        _ => return None,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test is what these say")]
mod tests {
    use std::time::Duration;

    use mongodb::Client;
    use mongodb::bson::{Document, RawDocumentBuf, deserialize_from_document, doc, rawdoc};
    use mongodb::error::WriteFailure;
    use mongodb::options::ClientOptions;

    use super::super::bson_bytes::kind;
    use super::*;

    const SECRET: &str = "ada@example.com";

    fn write_error(error: &RawDocumentBuf) -> Option<Fault> {
        Fault::of_write_error("update shop.orders", Value { kind: kind::DOCUMENT, bytes: error.as_bytes() })
    }

    fn check(error: RawDocumentBuf, expected: &str) {
        let found = write_error(&error).map(|fault| format!("{:?}", fault.into_error("store", "orders")));
        let found = found.unwrap_or_else(|| "undecided".to_owned());
        assert!(found.starts_with(expected), "{found}");
        assert!(!found.contains(SECRET), "{found}");
    }

    #[test]
    fn write_errors() {
        let id = "Plan executor error during update :: caused by :: E11000 duplicate key error collection: shop.orders index: _id_ dup key: \
                  { _id: \"ada@example.com\" }";
        check(rawdoc! { "index": 0, "code": 11000, "errmsg": id, "keyPattern": { "_id": 1 } }, "undecided");
        check(rawdoc! { "index": 0, "code": 11000, "keyPattern": { "_id": 1 } }, "undecided");
        let email = "E11000 duplicate key error collection: shop.orders index: email_1 dup key: { email: \"ada@example.com index: _id_\" }";
        check(rawdoc! { "code": 11000, "errmsg": email }, "Refused { sink: \"store\", place: \"orders\", code: \"duplicate-key\"");
        assert!(format!("{:?}", write_error(&rawdoc! { "code": 11000, "errmsg": email }).unwrap()).contains("email_1"));
        let composite = rawdoc! { "code": 11000, "keyPattern": { "a": 1, "b": 1 }, "keyValue": { "a": "ada@example.com" } };
        assert!(format!("{:?}", write_error(&composite).unwrap()).contains("a_b"));
        let large = "BSONObj size: 17000000 is invalid. First element: _id: \"ada@example.com\"";
        check(
            rawdoc! { "code": 10334, "codeName": "BSONObjectTooLarge", "errmsg": large },
            "Refused { sink: \"store\", place: \"orders\", code: \"too-large\"",
        );
        check(rawdoc! { "code": 121, "errmsg": "Document failed validation" }, "Refused");
        check(rawdoc! { "code": 112, "codeName": "WriteConflict" }, "Away");
        check(rawdoc! { "code": 10107, "codeName": "NotWritablePrimary" }, "Away");
        check(rawdoc! { "code": 14031, "codeName": "OutOfDiskSpace" }, "Full");
        check(rawdoc! { "code": 13, "errmsg": "not authorized to execute command { updates: [ \"ada@example.com\" ] }" }, "Setup");
        check(
            rawdoc! { "code": 123456, "errmsg": "ada@example.com" },
            "Refused { sink: \"store\", place: \"orders\", code: \"server-error\"",
        );
    }

    /// Every code that a server may answer to what the sink sends: for a whole command, and for one write of it.
    #[test]
    fn codes_and_what_they_mean() {
        let mut known = std::collections::BTreeSet::new();
        for line in include_str!("../../../tests/faults/mongodb.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let fields: [&str; 4] = line.split_ascii_whitespace().collect::<Vec<_>>().try_into().unwrap();
            let [code, name, command, write] = fields;
            let number: i32 = code.parse().unwrap();
            assert!(known.insert(number), "{line}: twice");
            let found = format!("{:?}", Fault::of_code("update shop.orders", number, name));
            assert!(found.starts_with(command), "{line}: {found}");
            let error = rawdoc! { "index": 0, "code": number, "codeName": name, "errmsg": SECRET };
            let found = write_error(&error).map_or_else(|| "Undecided".to_owned(), |fault| format!("{fault:?}"));
            assert!(found.starts_with(write) && !found.contains(SECRET), "{line}: {found}");
        }
        let listed = TRANSIENT.iter().chain(&UNFIT).chain(&UNAUTHORIZED).chain(&OUT_OF_SPACE).chain(&DUPLICATE_KEY);
        for code in listed {
            assert!(known.contains(code), "{code} has no line in tests/faults/mongodb.txt");
        }
    }

    /// By the driver's kinds.
    fn check_kind(error: &DriverError, expected: &str) {
        let found = format!("{:?}", Fault::of_driver("update shop.orders", error));
        assert!(found.starts_with(expected) && found.contains("update shop.orders: "), "{error}: {found}");
        assert!(!found.contains(SECRET), "{found}");
    }

    #[test]
    fn errors_that_anyone_can_make() {
        use std::io::ErrorKind as Io;
        for io in [Io::ConnectionRefused, Io::ConnectionReset, Io::BrokenPipe, Io::TimedOut, Io::UnexpectedEof, Io::InvalidData, Io::Other]
        {
            check_kind(&std::io::Error::from(io).into(), "Away");
        }
        let stranger = std::io::Error::new(Io::InvalidData, "invalid peer certificate: UnknownIssuer").into();
        check_kind(
            &stranger,
            "Away(\"update shop.orders: invalid peer certificate: UnknownIssuer; the driver trusts Mozilla's authorities",
        );
        for (code, name, expected) in [
            (13, "Unauthorized", "Setup"),
            (59, "CommandNotFound", "Setup"),
            (14031, "OutOfDiskSpace", "Full"),
            (121, "DocumentValidationFailure", "Refused"),
            (91, "ShutdownInProgress", "Away"),
            (777_777, "SomethingNew", "Away"),
        ] {
            let failed = deserialize_from_document(doc! { "code": code, "codeName": name, "errmsg": SECRET }).unwrap();
            check_kind(&ErrorKind::Command(failed).into(), expected);
        }
        // What the driver knows, and nothing here makes it say: the outcome is unknown.
        let unacknowledged = deserialize_from_document(doc! { "code": 64, "errmsg": SECRET }).unwrap();
        let unread = Document::from_reader(SECRET.as_bytes()).unwrap_err();
        for error in [
            ErrorKind::Write(WriteFailure::WriteConcernError(unacknowledged)).into(),
            ErrorKind::SessionsNotSupported.into(),
            ErrorKind::MissingResumeToken.into(),
            ErrorKind::Shutdown.into(),
            DriverError::custom(SECRET),
            unread.into(),
        ] {
            check_kind(&error, "Away(\"update shop.orders: the server's answer was not understood");
        }
    }

    /// Kinds whose errors the driver alone makes, without a server to ask.
    #[tokio::test]
    async fn errors_of_the_driver_s_own() {
        let parsed = async |uri: &str| ClientOptions::parse(uri).await;
        let argument = parsed("mongodb://ada@example.com/?maxPoolSize=many").await.unwrap_err();
        assert!(matches!(*argument.kind, ErrorKind::InvalidArgument { .. }), "{argument:?}");
        check_kind(&argument, "Setup");

        let tls = Client::with_options(parsed("mongodb://127.0.0.1/?tls=true&tlsCAFile=/nowhere/ca.pem").await.unwrap()).unwrap_err();
        assert!(matches!(*tls.kind, ErrorKind::InvalidTlsConfig { .. }), "{tls:?}");
        check_kind(&tls, "Setup");

        // No name server takes a label of so many letters: none is asked.
        let name = parsed(&format!("mongodb+srv://{}.example.com/", "x".repeat(64))).await.unwrap_err();
        assert!(matches!(*name.kind, ErrorKind::DnsResolve { .. }), "{name:?}");
        check_kind(&name, "Away");

        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
        let mut options = parsed(&format!("mongodb://127.0.0.1:{port}/")).await.unwrap();
        options.server_selection_timeout = Some(Duration::from_millis(50));
        let nobody = Client::with_options(options).unwrap().database("shop").run_command(doc! { "ping": 1 }).await.unwrap_err();
        assert!(matches!(*nobody.kind, ErrorKind::ServerSelection { .. }), "{nobody:?}");
        check_kind(&nobody, "Away");
    }

    #[test]
    fn a_write_concern_timeout_is_no_answer() {
        let error = rawdoc! { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication timed out" };
        let fault = Fault::of_write_concern_error("update shop.orders", Value { kind: kind::DOCUMENT, bytes: error.as_bytes() });
        assert!(matches!(fault, Fault::Away(message) if message.contains("64 WriteConcernTimeout")));
    }
}
