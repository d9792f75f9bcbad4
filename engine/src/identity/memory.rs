//! Identities in this process, for tests and the demo.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::{BoxFuture, ready};

use super::{Error, Identities};
use crate::sink::TopicIdentity;

/// Remembers the identities while the process lives.
#[derive(Debug, Default)]
pub struct MemoryIdentities {
    topics: Mutex<HashMap<String, TopicIdentity>>,
}

impl Identities for MemoryIdentities {
    fn load<'a>(&'a self, topics: &'a [String]) -> BoxFuture<'a, Result<HashMap<String, TopicIdentity>, Error>> {
        let known = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let found = topics.iter().filter_map(|topic| Some((topic.clone(), known.get(topic)?.clone()))).collect();
        Box::pin(ready(Ok(found)))
    }

    fn store<'a>(&'a self, topic: &'a str, identity: &'a TopicIdentity) -> BoxFuture<'a, Result<(), Error>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), identity.clone());
        Box::pin(ready(Ok(())))
    }
}
