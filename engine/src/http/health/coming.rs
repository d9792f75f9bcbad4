//! A partition that is not at work: it has not started yet, or it began again and has kept nothing since.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::{Health, Lane, LaneHealth};

/// What is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coming {
    /// Milliseconds since `Health::since`.
    pub(super) since_ms: u64,
    /// Why it began again; `None`: it begins for the first time.
    again: Option<String>,
    /// Who has not answered, and what is known of that.
    waits_for: Option<String>,
}

impl Coming {
    pub(super) fn since(since_ms: u64) -> Self {
        Self { since_ms, again: None, waits_for: None }
    }

    /// Why it is not at work.
    pub(in crate::http) fn why(&self) -> String {
        match (&self.waits_for, &self.again) {
            (Some(whom), _) => format!("it waits for {whom}"),
            (None, Some(why)) => format!("it began again and has kept nothing since: {why}"),
            (None, None) => "it waits for answers of Kafka and the sinks".to_owned(),
        }
    }
}

impl Health {
    /// What is told of a partition that begins again, and why it does; `coming` is what was told of it before.
    pub fn comes_again(&self, coming: Option<Coming>, why: &str) -> Coming {
        let since_ms = coming.map_or_else(|| self.now_ms(), |coming| coming.since_ms);
        Coming { since_ms, again: Some(why.to_owned()), waits_for: None }
    }
}

impl Lane {
    pub(in crate::http) fn coming(&self) -> MutexGuard<'_, Option<Coming>> {
        // What a panicking thread left behind is whole: each change is one assignment.
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneHealth {
    /// The partition can't start before this is answered. The words hold no secret and no row.
    pub fn waits_for(&self, whom: &str) {
        self.tell(Some(whom.to_owned()));
    }

    /// What it waited for is answered.
    pub fn answered(&self) {
        self.tell(None);
    }

    fn tell(&self, waits_for: Option<String>) {
        if let Some(coming) = &mut *self.lane.coming() {
            coming.waits_for = waits_for;
        }
    }

    /// The partition is given to a lane. One that began again is not at work before it has kept something.
    pub fn runs(&self) {
        self.lane.runs.store(true, Ordering::Relaxed);
        let mut coming = self.lane.coming();
        let again = coming.take().filter(|coming| coming.again.is_some());
        *coming = again.map(|coming| Coming { waits_for: None, ..coming });
    }

    /// The sinks have what the lane acknowledged.
    pub fn kept(&self) {
        *self.lane.coming() = None;
    }

    /// What is told of the partition while it is not at work.
    pub fn coming(&self) -> Option<Coming> {
        self.lane.coming().clone()
    }
}
