//! Which errors say that a store is away: killed, on its way up or down, or cut off, as scenarios make it. What else a store answers, and what
//! can't be read of its answers, is none of them.

use mongodb::error::ErrorKind as MongoDbKind;
use redis::{ErrorKind as RedisKind, ServerErrorKind};

/// Codes of a MongoDB that starts, stops, changes its primary or has no time, and of a cursor that such a one has forgotten:
/// HostUnreachable, HostNotFound, CursorNotFound, MaxTimeMSExpired, NetworkTimeout, ShutdownInProgress, NotYetInitialized,
/// ReadConcernMajorityNotAvailableYet, QueryPlanKilled, PrimarySteppedDown, NetworkInterfaceExceededTimeLimit, CursorKilled,
/// ExceededTimeLimit, SocketException, LegacyNotPrimary, NotWritablePrimary, InterruptedAtShutdown, Interrupted,
/// InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary.
const PASSING: [i32; 21] = [6, 7, 43, 50, 89, 91, 94, 134, 175, 189, 202, 237, 262, 9001, 10058, 10107, 11600, 11601, 11602, 13435, 13436];

/// What a Redis says that reads its data, or in which a script runs. While it connects the client drops the code, LOADING or BUSY, and keeps
/// these words.
const PASSING_WORDS: [&str; 2] = ["is loading the dataset", "is busy running a script"];

/// Whether the store did not answer, or only that it can't yet. `error` is the client's own, or has it beneath.
#[must_use]
pub fn is_away(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<redis::RedisError>().is_some_and(is_redis_away)
            || cause.downcast_ref::<mongodb::error::Error>().is_some_and(is_mongodb_away)
    })
}

fn is_redis_away(error: &redis::RedisError) -> bool {
    match error.kind() {
        // An answer that ends in the middle can't be parsed.
        RedisKind::Io | RedisKind::Parse => true,
        RedisKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ReadOnly,
        ) => true,
        _ => {
            let detail = error.detail().unwrap_or_default();
            error.code() == Some("BUSY") || PASSING_WORDS.iter().any(|words| detail.contains(words))
        }
    }
}

fn is_mongodb_away(error: &mongodb::error::Error) -> bool {
    match error.kind.as_ref() {
        MongoDbKind::Io(_) | MongoDbKind::ServerSelection { .. } | MongoDbKind::ConnectionPoolCleared { .. } => true,
        MongoDbKind::Command(command) => PASSING.contains(&command.code),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context as _, anyhow};
    use bson::doc;
    use mongodb::error::{CommandError, ErrorKind as MongoDbKind};
    use redis::{ErrorKind as RedisKind, RedisError, ServerErrorKind};

    use super::is_away;

    #[test]
    fn redis_away_or_at_fault() {
        let check = |error: RedisError, expected: bool| {
            let told = format!("{:?} {error}", error.kind());
            assert_eq!(is_away(&error.into()), expected, "{told}");
        };
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::UnexpectedEof, io::ErrorKind::TimedOut, io::ErrorKind::BrokenPipe] {
            check(io::Error::from(kind).into(), true);
        }
        check((RedisKind::Parse, "unexpected end of input").into(), true);
        check((RedisKind::Server(ServerErrorKind::BusyLoading), "Redis is loading").into(), true);
        let refused = "Redis server refused to switch database";
        let loading = "Redis is loading the dataset in memory".to_owned();
        check((RedisKind::Server(ServerErrorKind::ResponseError), refused, loading).into(), true);
        check((RedisKind::Server(ServerErrorKind::ResponseError), refused, "DB index is out of range".to_owned()).into(), false);
        check((RedisKind::Server(ServerErrorKind::NoPerm), "no permissions").into(), false);
        check((RedisKind::UnexpectedReturnType, "not a list").into(), false);
        check((RedisKind::AuthenticationFailed, "WRONGPASS").into(), false);
    }

    #[test]
    fn mongodb_away_or_at_fault() -> anyhow::Result<()> {
        let check = |error: mongodb::error::Error, expected: bool| {
            let told = error.to_string();
            assert_eq!(is_away(&error.into()), expected, "{told}");
        };
        check(io::Error::from(io::ErrorKind::ConnectionReset).into(), true);
        for (code, expected) in [(91, true), (11600, true), (10107, true), (43, true), (1, false), (13, false), (2, false)] {
            let command: CommandError = bson::deserialize_from_document(doc! { "code": code, "codeName": "", "errmsg": "" })?;
            check(MongoDbKind::Command(command).into(), expected);
        }
        Ok(())
    }

    #[test]
    fn what_is_around_an_error_changes_nothing() {
        let refused = || RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(Err::<(), _>(refused()).context("KEYS").is_err_and(|error| is_away(&error)));
        assert!(!is_away(&anyhow!("a version is no text")));
    }
}
