//! One batch, two guests: each record is decided by one of them. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::lower::is_seen;
use super::{CanaryAnswers, Error, GuestGroup};
use crate::change::ChangeBatch;
use crate::plan::{Canary, Fault, RecordFault};

/// A guest's answers to a batch.
pub type Answers = (Vec<GuestGroup>, Vec<RecordFault>);

/// Gives the second guest the records that it has answered, rejects among them; what it failed on stays with the first. Documents that can't be
/// stored are failures too: they must be among the second one's faults, because whoever plans its writes has no other answer any more.
pub fn divide(batch: &ChangeBatch, first: Answers, second: Answers, module: &str) -> (Answers, CanaryAnswers) {
    let (mut groups, mut faults) = first;
    let (mut second_groups, second_faults) = second;
    let failed: BTreeSet<u32> = failed(&second_faults).collect();
    let record_of = |event: &u32| batch.events.get(*event as usize).map(|event| event.record);
    let answered = second_groups.iter().flat_map(|group| &group.events).filter_map(record_of);
    let own: BTreeSet<u32> =
        answered.chain(second_faults.iter().map(|fault| fault.record)).filter(|record| !failed.contains(record)).collect();
    let is_own = |event: &u32| record_of(event).is_some_and(|record| own.contains(&record));
    for group in &mut groups {
        group.events.retain(|event| !is_own(event));
        group.writes.retain(|write| !is_own(&write.event));
    }
    for group in &mut second_groups {
        group.events.retain(is_own);
        group.writes.retain(|write| is_own(&write.event));
    }
    faults.retain(|fault| !own.contains(&fault.record));
    faults.extend(second_faults.into_iter().filter(|fault| own.contains(&fault.record)));
    let canary = Canary { module: Arc::from(module), records: own.into_iter().collect() };
    ((groups, faults), CanaryAnswers { canary, groups: second_groups })
}

/// The record of each fault that is no answer.
pub fn failed(faults: &[RecordFault]) -> impl Iterator<Item = u32> {
    let is_reject = |fault: &RecordFault| matches!(fault.fault, Fault::Transform(Error::Rejected { .. }));
    faults.iter().filter(move |fault| !is_reject(fault)).map(|fault| fault.record)
}

/// How many events a guest was shown and has answered, rejects among them: deletes may not be shown to it.
pub fn answered(batch: &ChangeBatch, groups: &[GuestGroup], faults: &[RecordFault]) -> u64 {
    let failed: BTreeSet<u32> = failed(faults).collect();
    let is_answered = |group: &GuestGroup, event: &u32| {
        batch.events.get(*event as usize).is_some_and(|event| is_seen(&group.opened, event) && !failed.contains(&event.record))
    };
    groups.iter().map(|group| group.events.iter().filter(|event| is_answered(group, event)).count() as u64).sum()
}
