//! The generation and the first offset of a partition, from all that is known of it.

use crate::fence::Generation;
use crate::sink::{TopicIdentity, Watermark};
use crate::source::cluster::{TopicFacts, UNKNOWN_ID};
use crate::source::{CommittedPartition, TopicPartition};

/// All that is known of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The partition, the group's commit, and what the log holds.
    pub partition: &'a CommittedPartition,
    /// Every stored identity of the topic: the control topic's and the sinks'.
    pub stored: &'a [TopicIdentity],
    /// What Kafka says of the topic now.
    pub current: &'a TopicFacts,
    /// The partition's watermark in each sink that its route writes to, with the sink's name.
    pub watermarks: &'a [(String, Option<Watermark>)],
    /// A log that begins above offset 0 counts as complete.
    pub accept_truncated_log: bool,
    /// When the log was looked at, milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Where the generation begins in this partition, if an operator's command began it: the log is complete from there on.
    pub begins_at: Option<i64>,
    /// The consumer group, for messages.
    pub group: &'a str,
    /// The route, for remedies.
    pub route: &'a str,
}

/// Where a partition starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The upper part of its fences.
    pub generation: Generation,
    /// The first offset that is read.
    pub offset: i64,
    /// The group has no commit: commit `offset` at once, so that this partition is never taken for a new one again.
    pub record_beginning: bool,
    /// The topic's identity. Wherever another one, or none, is stored, store it before anything is committed or written.
    pub identity: TopicIdentity,
    /// Deletions made before are known to every sink, or stand in the log from `offset` on; milliseconds since the Unix epoch.
    pub complete_until_ms: i64,
    /// How long the log tells of a deletion. `None`: for ever.
    pub tombstones_kept_ms: Option<i64>,
}

/// Why a partition must not start, and what the operator can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_partition}: {what}. {remedy}")]
pub struct Halt {
    /// Which.
    pub source_partition: TopicPartition,
    /// The kind.
    pub reason: Reason,
    /// What was found.
    pub what: String,
    /// What helps.
    pub remedy: String,
}

/// The kinds of [`Halt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another cluster, another life of the topic, or other partitions.
    IdentityChanged,
    /// Progress without an identity, or of a generation that no identity has.
    IdentityLost,
    /// The log's beginning is gone, and something needs it.
    LogTruncated,
    /// The position is before the log's beginning.
    OffsetLost,
    /// The position is behind the log's end.
    BeyondEnd,
    /// A compacted log may have dropped the null records of deleted rows.
    TombstonesExpired,
}

/// Says where a partition starts.
///
/// A partition is new where there is neither a commit, nor an identity, nor a watermark: it starts at its log's beginning. Otherwise it
/// resumes at the smallest of the commit and the sinks' watermarks; a sink without one of this generation (a new one, or one that was
/// flushed) needs the log from its beginning. Fences make reading again harmless; what is missing from the log halts.
pub fn resolve(known: &Known<'_>) -> Result<Start, Halt> {
    let stored = known.stored.iter().max_by_key(|identity| identity.generation);
    let generation = generation(known, stored)?;
    let offset = offset(known, generation)?;
    let facts = known.current;
    let identity = TopicIdentity {
        cluster_id: told(&facts.cluster_id, stored.map(|s| &s.cluster_id)),
        topic_id: told(&facts.topic_id, stored.map(|s| &s.topic_id)),
        ..of_topic(facts, generation)
    };
    Ok(Start {
        generation,
        offset,
        record_beginning: known.partition.committed.is_none(),
        identity,
        complete_until_ms: complete_until_ms(known, generation),
        tombstones_kept_ms: facts.tombstones_kept_ms(),
    })
}

/// The identity of a topic as it is now.
pub fn of_topic(current: &TopicFacts, generation: Generation) -> TopicIdentity {
    TopicIdentity {
        cluster_id: current.cluster_id.clone(),
        topic_id: current.topic_id.clone(),
        partitions: current.partitions,
        generation: generation.number(),
    }
}

/// What Kafka does not tell now stays as it was stored.
fn told(current: &str, stored: Option<&String>) -> String {
    if current == UNKNOWN_ID { stored.map_or(current, String::as_str).to_owned() } else { current.to_owned() }
}

fn generation(known: &Known<'_>, stored: Option<&TopicIdentity>) -> Result<Generation, Halt> {
    let watermark = known.watermarks.iter().filter_map(|(sink, watermark)| Some((sink, (*watermark)?))).max_by_key(|(_, w)| w.generation);
    let Some(stored) = stored else {
        let progress = match (known.partition.committed, watermark) {
            (None, None) => return Ok(Generation::FIRST),
            (Some(offset), _) => format!("group {} has committed offset {offset}", known.group),
            (None, Some((sink, watermark))) => format!("sink {sink} has watermark {}", watermark.next_offset),
        };
        let what = format!(
            "{progress}, but neither the control topic nor a sink knows the topic's identity: another program may have used the group, or the record was lost"
        );
        return Err(halt(known, Reason::IdentityLost, what, next_generation(known)));
    };
    if let Some(what) = changed(stored, known.current) {
        let remedy = if grown(stored, known.current).is_some() { new_snapshot(known) } else { next_generation(known) };
        return Err(halt(known, Reason::IdentityChanged, what, remedy));
    }
    let Some(generation) = Generation::new(stored.generation) else {
        let what = format!("the stored identity has generation {}, which no topic has", stored.generation);
        return Err(halt(known, Reason::IdentityLost, what, next_generation(known)));
    };
    match watermark {
        Some((sink, watermark)) if watermark.generation > generation => {
            let (later, earlier) = (watermark.generation.number(), generation.number());
            let what = format!(
                "sink {sink} has a watermark of generation {later}, but the latest identity that is stored has generation {earlier}"
            );
            Err(halt(known, Reason::IdentityLost, what, next_generation(known)))
        }
        _ => Ok(generation),
    }
}

/// What differs between the stored identity and the topic; an id that Kafka did not tell is no difference.
pub fn changed(stored: &TopicIdentity, current: &TopicFacts) -> Option<String> {
    if is_other(&stored.cluster_id, &current.cluster_id) {
        return Some(format!("the topic was on cluster {} and is now on cluster {}", stored.cluster_id, current.cluster_id));
    }
    if is_other(&stored.topic_id, &current.topic_id) {
        return Some(format!("the topic was deleted and created again: its id was {} and is now {}", stored.topic_id, current.topic_id));
    }
    grown(stored, current)
}

/// What differs where it is the same topic with more partitions: its log has versions of one key in two of them.
pub fn grown(stored: &TopicIdentity, current: &TopicFacts) -> Option<String> {
    let (before, now) = (stored.partitions, current.partitions);
    let is_same = !is_other(&stored.cluster_id, &current.cluster_id) && !is_other(&stored.topic_id, &current.topic_id);
    (before != now && is_same).then(|| format!("the topic had {before} partitions and now has {now}: its keys are spread in another way"))
}

/// An id that Kafka did not tell is no other one.
fn is_other(stored: &str, current: &str) -> bool {
    stored != current && stored != UNKNOWN_ID && current != UNKNOWN_ID
}

/// Where a topic is read of which nothing is stored: whatever became of it, there is nothing that it could falsify. What is known of it stays: it
/// may have had a route, and have one again.
pub fn pass_over(partition: &CommittedPartition, stored: &[TopicIdentity], current: &TopicFacts) -> Start {
    let CommittedPartition { committed, low, high, .. } = *partition;
    let offset = committed.filter(|offset| (low..=high).contains(offset)).unwrap_or(low);
    let latest = stored.iter().max_by_key(|identity| identity.generation).cloned();
    let identity = latest.unwrap_or_else(|| of_topic(current, Generation::FIRST));
    // No sink has anything of it that could be deleted.
    Start {
        generation: Generation::FIRST,
        offset,
        record_beginning: committed != Some(offset),
        identity,
        complete_until_ms: 0,
        tombstones_kept_ms: None,
    }
}

fn offset(known: &Known<'_>, generation: Generation) -> Result<i64, Halt> {
    let CommittedPartition { committed, low, high, .. } = *known.partition;
    // Offsets before the generation's beginning are of the one before: the group keeps them where nobody could set them.
    let from_beginning = |offset: i64| known.begins_at.map_or(offset, |begins_at| offset.max(begins_at));
    let committed = committed.map(from_beginning);
    let mut smallest = committed.map(|offset| (offset, format!("the offset committed by group {}", known.group)));
    let mut take = |offset: i64, whose: String| {
        if smallest.as_ref().is_none_or(|(so_far, _)| offset < *so_far) {
            smallest = Some((offset, whose));
        }
    };
    for (sink, watermark) in known.watermarks {
        match watermark.filter(|w| w.generation == generation) {
            Some(watermark) => {
                check_tombstones(known, sink, watermark)?;
                take(from_beginning(watermark.next_offset), format!("the watermark of sink {sink}"));
            }
            None => {
                take(beginning(known, &format!("sink {sink} has no watermark of this topic: it is new, or it was emptied"))?, sink.clone())
            }
        }
    }
    let Some((offset, whose)) = smallest else { return beginning(known, "nothing of the topic was read before") };
    if offset < low {
        let what = format!("{whose} is {offset}, but the log begins at {low}: records {offset} to {} are gone unread", low - 1);
        return Err(halt(known, Reason::OffsetLost, what, new_snapshot(known)));
    }
    if offset > high {
        let what = format!("{whose} is {offset}, but the log ends at {high}: the topic lost records, or it is another one");
        return Err(halt(known, Reason::BeyondEnd, what, new_snapshot(known)));
    }
    Ok(offset)
}

/// Of a partition that was read beyond where its log reached, and that could be read on from `offset` now: what stood behind the log's end
/// was lost, and other records have taken its offsets, or will.
pub fn lost_tail(known: &Known<'_>, offset: i64) -> Halt {
    let what = format!(
        "the log was cut off before a position that was read already, as by an unclean leader election, and goes on with other records, from \
         offset {offset} on: what stood there may be in some stores and not in others, and what stands there now would count for the same"
    );
    halt(known, Reason::BeyondEnd, what, new_snapshot(known))
}

/// Where the log that a store without any of it needs begins, if it is complete from there on.
fn beginning(known: &Known<'_>, why: &str) -> Result<i64, Halt> {
    let low = known.partition.low;
    if let Some(begins_at) = known.begins_at.filter(|begins_at| *begins_at >= low) {
        return Ok(begins_at);
    }
    if low == 0 || known.accept_truncated_log || !known.current.cleanup_policy.delete {
        return Ok(low);
    }
    let began = known.begins_at.map_or_else(String::new, |begins_at| format!("its generation begins at offset {begins_at}, "));
    let what = format!("{why}, {began}and the log begins at offset {low}: what stood before is gone");
    let remedy = format!(
        "If the log still has every row, set kafka.accept_truncated_log = true. If not: {}. For later, give the topic retention.ms=-1 or \
         cleanup.policy=compact",
        new_snapshot(known)
    );
    Err(halt(known, Reason::LogTruncated, what, remedy))
}

/// A compacted log keeps a deleted row's null record for a while only: who comes later never learns of the deletion.
fn check_tombstones(known: &Known<'_>, sink: &str, watermark: Watermark) -> Result<(), Halt> {
    let Some(kept_ms) = known.current.tombstones_kept_ms() else { return Ok(()) };
    let behind_ms = known.now_ms.saturating_sub(watermark.complete_until_ms);
    if watermark.next_offset >= known.partition.high || behind_ms <= kept_ms {
        return Ok(());
    }
    let what = format!(
        "sink {sink} is {} hours behind, but the compacted topic keeps null records for {} hours only: deletions may be missing",
        behind_ms / 3_600_000,
        kept_ms / 3_600_000
    );
    Err(halt(known, Reason::TombstonesExpired, what, new_snapshot(known)))
}

/// A sink that has all of the log lacks no deletion now, and one that begins anew has no row yet.
fn complete_until_ms(known: &Known<'_>, generation: Generation) -> i64 {
    let of_generation = known.watermarks.iter().filter_map(|(_, watermark)| watermark.filter(|w| w.generation == generation));
    let behind = of_generation.filter(|watermark| watermark.next_offset < known.partition.high);
    behind.map(|watermark| watermark.complete_until_ms).fold(known.now_ms, i64::min)
}

fn halt(known: &Known<'_>, reason: Reason, what: String, remedy: String) -> Halt {
    Halt { source_partition: known.partition.source.clone(), reason, what, remedy }
}

/// What helps where the topic is another one, or nobody knows which it is.
fn next_generation(known: &Known<'_>) -> String {
    let route = known.route;
    format!(
        "If this is meant, and the topic has every row of the table, as after a snapshot: stop the group's workers, begin the next generation \
         with `streamsync rebuild --route {route}`, which reads the topic from its beginning and then removes what it does not have (`streamsync \
         generation next --route {route}` leaves that be), and start them again. If the topic lacks rows: {}",
        new_snapshot(known)
    )
}

/// What helps where the log no longer has what is needed.
fn new_snapshot(known: &Known<'_>) -> String {
    let route = known.route;
    format!(
        "Stop the group's workers and the connector, run `streamsync rebuild --route {route} --after-snapshot`, start the workers again, have \
         Debezium take a new snapshot of the table, and when it is done run `streamsync rebuild --route {route} --snapshot-complete`"
    )
}

#[cfg(test)]
mod tests;
