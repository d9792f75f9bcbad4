//! What a store holds of a key, and whether a write may replace it.

use super::bson_bytes::{Elements, Value};
use super::fault::Fault;
use crate::fence::Fence;
use crate::sink::WriteOutcome;

/// The version of a document or a tombstone, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) fence: i64,
    /// `None` where another program wrote the document.
    pub(super) partition: Option<i32>,
    /// `None` for a tombstone.
    pub(super) content: Option<i64>,
}

impl Stored {
    /// Of a document; `None` where it has no version: such a document is adopted.
    pub(super) fn of_document(document: &[u8]) -> Option<Self> {
        let sync = Elements::of(document).find("_sync")?;
        Some(Self {
            content: Some(sync.elements().find("h").and_then(Value::as_i64).unwrap_or_default()),
            ..Self::of_fields(sync.elements())?
        })
    }

    /// Of a tombstone.
    pub(super) fn of_tombstone(tombstone: &[u8]) -> Option<Self> {
        Self::of_fields(Elements::of(tombstone))
    }

    fn of_fields(fields: Elements<'_>) -> Option<Self> {
        let fence = fields.clone().find("v")?.as_i64()?;
        let partition = fields.find("p").and_then(Value::as_i64).and_then(|partition| i32::try_from(partition).ok());
        Some(Self { fence, partition, content: None })
    }
}

/// The version of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) fence: Fence,
    pub(super) partition: i32,
    /// `None` for a delete.
    pub(super) content: Option<i64>,
}

/// The least fence of a fence's generation.
pub(super) fn generation_start(fence: i64) -> i64 {
    fence & !((1 << 48) - 1)
}

/// Which stored versions a conditional write may replace. The two together are the whole rule; they are apart because servers, and
/// MongoDB's own planner at its fastest, look a key up only where all conditions are joined by AND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Older ones of the same partition, and documents without a version: nearly always all that there is.
    SamePartition,
    /// Those of earlier generations, whatever their partition.
    EarlierGeneration,
}

/// What a stored version means for a write.
pub(super) enum Verdict {
    /// The write may replace it, under this guard.
    Older(Guard),
    /// It may not.
    Settled(Result<WriteOutcome, Fault>),
}

impl Incoming {
    /// Compares this write with what is stored.
    pub(super) fn judge(self, stored: Stored) -> Verdict {
        let number = self.fence.number();
        let same_partition = stored.partition == Some(self.partition);
        if generation_start(stored.fence) == generation_start(number) && !same_partition && stored.partition.is_some() {
            return Verdict::Settled(Err(Fault::OtherPartition { stored: stored.partition.unwrap_or(-1), incoming: self.partition }));
        }
        if stored.fence < number {
            return Verdict::Older(if same_partition || stored.partition.is_none() {
                Guard::SamePartition
            } else {
                Guard::EarlierGeneration
            });
        }
        Verdict::Settled(Ok(if stored.fence > number {
            WriteOutcome::Stale
        } else if stored.content == self.content {
            WriteOutcome::Duplicate
        } else {
            WriteOutcome::Conflict
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::Generation;

    fn incoming(generation: u16, offset: i64, partition: i32, content: Option<i64>) -> Incoming {
        #[expect(clippy::expect_used, reason = "test numbers are in range")]
        let fence = Fence::new(Generation::new(generation).expect("in range"), offset).expect("in range");
        Incoming { fence, partition, content }
    }

    fn check(stored: Incoming, write: Incoming, expected: &str) {
        let stored = Stored { fence: stored.fence.number(), partition: Some(stored.partition), content: stored.content };
        let found = match write.judge(stored) {
            Verdict::Older(guard) => format!("{guard:?}"),
            Verdict::Settled(Ok(outcome)) => format!("{outcome:?}"),
            Verdict::Settled(Err(fault)) => format!("{fault:?}"),
        };
        assert_eq!(found, expected, "{stored:?} {write:?}");
    }

    #[test]
    fn judge() {
        check(incoming(1, 5, 0, Some(1)), incoming(1, 6, 0, Some(2)), "SamePartition");
        check(incoming(1, 5, 0, Some(1)), incoming(1, 5, 0, Some(1)), "Duplicate");
        check(incoming(1, 5, 0, Some(1)), incoming(1, 5, 0, Some(2)), "Conflict");
        check(incoming(1, 5, 0, Some(1)), incoming(1, 5, 0, None), "Conflict");
        check(incoming(1, 5, 0, None), incoming(1, 5, 0, None), "Duplicate");
        check(incoming(1, 5, 0, Some(1)), incoming(1, 4, 0, Some(2)), "Stale");
        check(incoming(1, 5, 0, Some(1)), incoming(1, 6, 1, Some(2)), "OtherPartition { stored: 0, incoming: 1 }");
        check(incoming(1, 5, 0, Some(1)), incoming(1, 4, 1, Some(2)), "OtherPartition { stored: 0, incoming: 1 }");
        check(incoming(1, 5, 0, Some(1)), incoming(2, 0, 1, Some(2)), "EarlierGeneration");
        check(incoming(1, 5, 0, Some(1)), incoming(2, 0, 0, Some(2)), "SamePartition");
        check(incoming(2, 0, 0, Some(1)), incoming(1, 5, 1, Some(2)), "Stale");
    }
}
