//! What Redis' errors mean. Their texts never hold a value of a row, except where the server repeats arguments: those are cut off.

use redis::{ErrorKind, RedisError, ServerError};

use crate::sink::Error;

/// A sink's name and one of its servers, for messages.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) sink: &'a str,
    pub(super) server: &'a str,
}

/// What follows from an error code.
enum Meaning {
    /// Try again later, perhaps elsewhere.
    Away,
    /// The operator must make room.
    Full,
    /// This key or document.
    Refused(&'static str),
    /// Configuration, credentials, permissions, or a server that can't do what is asked.
    Setup(&'static str),
}

/// Codes that are known; whatever is not here is the set-up's fault.
fn meaning(code: &str) -> Option<Meaning> {
    Some(match code {
        "ASK" | "BUSY" | "CLUSTERDOWN" | "INPROG" | "IOERR" | "LOADING" | "MASTERDOWN" | "MOVED" | "NOMASTERLINK" | "NOREPLICAS"
        | "NOSCRIPT" | "READONLY" | "REDIRECT" | "TRYAGAIN" | "UNBLOCKED" => Meaning::Away,
        "MISCONF" | "OOM" => Meaning::Full,
        "WRONGTYPE" => Meaning::Refused("wrongtype"),
        "BADVERSION" => Meaning::Refused("badversion"),
        "BADJSON" => Meaning::Refused("badjson"),
        "NOAUTH" | "WRONGPASS" => Meaning::Setup("give the sink's URL a user and password that the server knows"),
        "DENIED" => Meaning::Setup("the server is in protected mode: give it a password, or let it listen where only its users are"),
        "NOPROTO" => Meaning::Setup("the server is too old for the protocol of the URL"),
        "NOPERM" => Meaning::Setup(
            "the sink's user needs +@read +@write +@scripting +info on its prefixes' keys and ~_sync:*, in a cluster also +cluster|slots +cluster|info +cluster|nodes",
        ),
        "CROSSSLOT" => Meaning::Setup("two keys of one write are in different slots: a prefix or key holds unescaped braces"),
        "BADIDENTITY" => Meaning::Setup("remove the key _sync:identity:<topic> if another program wrote it"),
        _ => return None,
    })
}

impl At<'_> {
    /// An error that the server answered to a write.
    pub(super) fn write(self, place: &str, error: &ServerError) -> Error {
        self.server_error(place, error.code(), error.details().unwrap_or_default())
    }

    /// An error of anything but a write: the server's answer, or none.
    pub(super) fn command(self, error: &RedisError) -> Error {
        if let Some(code) = error.code() {
            return self.server_error("its own keys", code, error.detail().unwrap_or_default());
        }
        let kind = error.kind();
        if matches!(
            kind,
            ErrorKind::Io
                | ErrorKind::Parse
                | ErrorKind::ClusterConnectionNotFound
                | ErrorKind::MasterNameNotFoundBySentinel
                | ErrorKind::NoValidReplicasFoundBySentinel
        ) {
            return self.away(&error.to_string());
        }
        if kind == ErrorKind::AuthenticationFailed {
            return self.setup(error.category(), "give the sink's URL a user and password that the server knows");
        }
        self.setup(&error.to_string(), "see whether it is a Redis server, and the URL fits it")
    }

    pub(super) fn away(self, message: &str) -> Error {
        Error::Away { sink: self.sink.to_owned(), message: format!("{}: {message}", self.server) }
    }

    pub(super) fn setup(self, message: &str, remedy: &str) -> Error {
        Error::Setup { sink: self.sink.to_owned(), message: format!("{}: {message}; {remedy}", self.server) }
    }

    pub(super) fn server_error(self, place: &str, code: &str, detail: &str) -> Error {
        // Before Redis 7, an error inside of a script is wrapped: "ERR Error running script (call to f_…): @user_script:1: -OOM …".
        let wrapped =
            if code == "ERR" { detail.split_ascii_whitespace().find_map(|word| meaning(word.trim_start_matches('-'))) } else { None };
        let said = detail.split(", with args beginning with").next().unwrap_or_default();
        let message = format!("{}: {code} {said}", self.server);
        let sink = self.sink.to_owned();
        match meaning(code).or(wrapped) {
            Some(Meaning::Away) => Error::Away { sink, message },
            // An operator has ended a script that took too long. The last two are BUSY and LOADING, whose code the client drops while it connects.
            None if ["max number of clients", "killed by user", "is busy running a script", "is loading the dataset"]
                .iter()
                .any(|words| said.contains(words)) =>
            {
                Error::Away { sink, message }
            }
            Some(Meaning::Full) => Error::Full { sink, message },
            Some(Meaning::Refused(code)) => Error::Refused { sink, place: place.to_owned(), code, message },
            Some(Meaning::Setup(remedy)) => Error::Setup { sink, message: format!("{message}; {remedy}") },
            None => Error::Setup { sink, message: format!("{message}; the server can't do what the sink needs of it") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_what_they_mean() {
        let check = |code: &str, detail: &str, expected: &str| {
            let error = At { sink: "redis", server: "localhost:6379" }.server_error("orders", code, detail);
            assert!(format!("{error:?}").starts_with(expected), "{code} {detail}: {error:?}");
        };
        for line in include_str!("../../../tests/faults/redis.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (expected, said) = line.split_once(": ").unwrap_or_default();
            let (code, detail) = said.split_once(' ').unwrap_or((said, ""));
            check(code, detail, expected);
        }
        let error = At { sink: "redis", server: "s" }.server_error("p", "ERR", "unknown command 'X', with args beginning with: 'secret'");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    /// Errors that no server answered, by the client's kinds.
    #[test]
    fn the_client_s_own_errors() {
        let at = At { sink: "redis", server: "localhost:6379" };
        for (kind, expected) in [
            (ErrorKind::Io, "Away"),
            (ErrorKind::Parse, "Away"),
            (ErrorKind::ClusterConnectionNotFound, "Away"),
            (ErrorKind::MasterNameNotFoundBySentinel, "Away"),
            (ErrorKind::NoValidReplicasFoundBySentinel, "Away"),
            (ErrorKind::AuthenticationFailed, "Setup"),
            (ErrorKind::UnexpectedReturnType, "Setup"),
            (ErrorKind::InvalidClientConfig, "Setup"),
            (ErrorKind::Client, "Setup"),
            (ErrorKind::Extension, "Setup"),
            (ErrorKind::EmptySentinelList, "Setup"),
            (ErrorKind::RESP3NotSupported, "Setup"),
        ] {
            let error = at.command(&RedisError::from((kind, "it went wrong")));
            assert!(format!("{error:?}").starts_with(expected), "{kind:?}: {error:?}");
        }
    }
}
