//! What a lane knows of a sink's watermark. The lane alone writes it, so anything else that stands there means that the sink has lost
//! data, or that another worker has the partition: docs/decisions/0011-healing.md.

use std::time::Duration;

use crate::sink::{Error, MarkOutcome, Replaces, Sink, Watermark};
use crate::source::{Idle, TopicPartition};

/// A partition's watermark in one sink, as its lane left it.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Index of the sink in the settings.
    pub sink: usize,
    /// Of the sink, when the lane began: what was acknowledged since is held by the same servers.
    lineage: u64,
    stored: Watermark,
    /// Sent, and not known to be stored.
    tried: Option<Watermark>,
}

/// The sink is not as the lane left it; says how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind(pub String);

impl Mark {
    /// Takes a watermark over, before the lane writes anything. `read` is what `begin`, the lane's position, was decided from, and
    /// `lineage` was asked for before that.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn take_over(
        sink: (usize, &dyn Sink),
        group: &str,
        source: &TopicPartition,
        lineage: u64,
        read: Option<Watermark>,
        begin: Watermark,
    ) -> Result<Result<Self, Behind>, Error> {
        let (index, sink) = sink;
        let mark = Self { sink: index, lineage, stored: begin, tried: None };
        // A worker that was stopped since then must not put back what another one has written: that one would take it for a loss.
        let found = sink.watermark(group, source).await?;
        let replaced = Watermark { written_at_ms: begin.written_at_ms.saturating_add(1), ..begin };
        if ![read, Some(begin), Some(replaced)].contains(&found) {
            return Ok(Err(mark.behind(found)));
        }
        let outcome = sink.store_watermark(group, source, lineage, Replaces::NotBehind(read), begin).await?;
        let created = match mark.after(outcome, begin) {
            Ok(created) if read.is_none() => created,
            taken => return Ok(taken),
        };
        // A request that creates a watermark may be done again long after it, in a sink that was emptied meanwhile: the lane must not take
        // that for its own.
        let outcome = sink.store_watermark(group, source, lineage, Replaces::Own(begin, None), replaced).await?;
        Ok(created.after(outcome, replaced))
    }

    /// Stores a new watermark, if the sink is what it was.
    pub(super) async fn store(
        &mut self,
        sink: &dyn Sink,
        group: &str,
        source: &TopicPartition,
        watermark: Watermark,
    ) -> Result<Result<(), Behind>, Error> {
        // What became of the last one is settled first, so that there is never more than one of which nothing is known.
        for next in [self.tried, Some(watermark)].into_iter().flatten() {
            let replaces = Replaces::Own(self.stored, self.tried);
            self.tried = Some(next);
            let outcome = sink.store_watermark(group, source, self.lineage, replaces, next).await?;
            match self.clone().after(outcome, next) {
                Ok(stored) => *self = stored,
                Err(behind) => return Ok(Err(behind)),
            }
        }
        Ok(Ok(()))
    }

    /// Whether it stands for all that the reader was given.
    pub(super) fn covers(&self, idle: Idle) -> bool {
        self.stored.next_offset >= idle.read
    }

    /// What to store where the partition ends at `idle`, which it covers; `None` where nothing would be new. The end may be behind a
    /// transaction's markers: there the group has no lag, and a log whose records are all past their retention has lost nothing unread.
    pub(super) fn renewed(&self, idle: Idle, after: Duration) -> Option<Watermark> {
        let Watermark { generation, next_offset, written_at_ms, complete_until_ms } = self.stored;
        let is_old = i64::try_from(after.as_millis()).is_ok_and(|after| idle.at_ms.saturating_sub(written_at_ms) >= after);
        (idle.end > next_offset || is_old).then(|| Watermark {
            generation,
            next_offset: next_offset.max(idle.end),
            written_at_ms: written_at_ms.max(idle.at_ms),
            complete_until_ms: complete_until_ms.max(idle.at_ms),
        })
    }

    /// Looks whether the sink is as it was left.
    pub(super) async fn check(&self, sink: &dyn Sink, group: &str, source: &TopicPartition) -> Result<Result<(), Behind>, Error> {
        if sink.lineage().await? != self.lineage {
            return Ok(Err(other_servers()));
        }
        let found = sink.watermark(group, source).await?;
        let ours = found == Some(self.stored) || (found.is_some() && found == self.tried);
        Ok(if ours { Ok(()) } else { Err(self.behind(found)) })
    }

    fn after(mut self, outcome: MarkOutcome, sent: Watermark) -> Result<Self, Behind> {
        match outcome {
            MarkOutcome::Stored => {
                (self.stored, self.tried) = (sent, None);
                Ok(self)
            }
            MarkOutcome::Found(found) => Err(self.behind(found)),
            MarkOutcome::OtherServers => Err(other_servers()),
        }
    }

    fn behind(&self, found: Option<Watermark>) -> Behind {
        let left = self.stored.next_offset;
        Behind(match found {
            None => format!("its watermark of this partition, {left}, is gone: it was emptied"),
            Some(found) if found.is_behind(&self.stored) => {
                format!(
                    "its watermark of this partition went back from {left} to {}: it was put back to an earlier state",
                    found.next_offset
                )
            }
            Some(found) => format!("another worker has written its watermark of this partition, {}", found.next_offset),
        })
    }
}

fn other_servers() -> Behind {
    Behind("its server was started anew, or another one took its place".to_owned())
}
