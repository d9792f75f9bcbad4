//! One writer a place: no two targets share a collection, a key prefix, or keys.

use super::fault::Report;
use super::routes::Written;
use super::settings::{Place, SinkKind, SinkSettings};

/// Reports targets whose keys could meet.
pub(super) fn check(written: &[Written], sinks: &[SinkSettings], report: &Report) {
    for (index, later) in written.iter().enumerate() {
        for earlier in written.get(..index).unwrap_or_default() {
            let (Some(a), Some(b)) = (sinks.get(earlier.target.sink), sinks.get(later.target.sink)) else { continue };
            if !same_store(a, b) {
                continue;
            }
            match (&earlier.target.place, &later.target.place) {
                (Place::MongoDb { collection: a }, Place::MongoDb { collection: b }) if a == b => {
                    let message = format!("{} writes to the collection {a:?} too", earlier.spot.key);
                    report.fault(&later.spot, message, "give each target a collection of its own");
                }
                (Place::Redis { prefix: a, .. }, Place::Redis { prefix: b, .. }) if meet(a, b) => {
                    let message = format!("keys with the prefix {b:?} could be those of {}, whose prefix is {a:?}", earlier.spot.key);
                    report.fault(&later.spot, message, "choose prefixes of which none is the other up to a `:`");
                }
                (Place::MongoDb { .. } | Place::Redis { .. }, Place::MongoDb { .. } | Place::Redis { .. }) => {}
            }
        }
    }
}

/// `a` and `a:b` meet: the key (b, 1) below `a` is the key (1) below `a:b`.
fn meet(a: &str, b: &str) -> bool {
    let begins = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    begins(a, b) || begins(b, a)
}

/// Also two sinks of other names may be one store.
fn same_store(a: &SinkSettings, b: &SinkSettings) -> bool {
    match (&a.kind, &b.kind) {
        (SinkKind::Redis(a), SinkKind::Redis(b)) => a.urls.iter().any(|url| b.urls.contains(url)),
        (SinkKind::MongoDb(a), SinkKind::MongoDb(b)) => a.uri == b.uri && a.database == b.database,
        (SinkKind::Memory, SinkKind::Memory) | (SinkKind::Null, SinkKind::Null) => a.name == b.name,
        (SinkKind::Redis(_) | SinkKind::MongoDb(_) | SinkKind::Memory | SinkKind::Null, _) => false,
    }
}
