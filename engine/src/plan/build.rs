//! From a guest's answers to the writes of each sink.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use xxhash_rust::xxh3::xxh3_64;

use super::cell::Cell;
use super::coalesce::KeyTable;
use super::{Bytes, Error, Fault, FencedWrite, MAX_DOCUMENT_BYTES, Planned, RecordFault, Refused, SinkWrites, WritePlan, bson, json, key};
use crate::change::{Cells, ChangeEvent, Snapshot, TableSchema};
use crate::config::{Place, RedisForm, RouteSettings, TargetSettings};
use crate::fence::{Fence, Generation};
use crate::route::RoutedBatch;
use crate::transform::{CanaryAnswers, GuestAction, GuestBatch, GuestGroup, GuestWrite, OpenedSchema, TAG_AFTER, TAG_BEFORE};

/// Digits of the module's SHA-256 that are stored with every version.
const MODULE_DIGITS: usize = 16;

/// So many writes of one event are compared with each other; more are looked up, because a guest may make as many as its answer has room for.
const FEW_WRITES: usize = 8;

/// Plans the batches of one route; keeps its tables between them.
pub struct Planner {
    digest: Arc<str>,
    /// As much of the digest as is stored with every version.
    module: Arc<str>,
    /// The sinks that the route writes to, each with its targets.
    sinks: Vec<(usize, Vec<Arc<TargetSettings>>)>,
    tables: Vec<KeyTable>,
    capacity: Vec<usize>,
}

/// Plans one batch.
pub fn build(batch: GuestBatch, generation: Generation, module: &str) -> WritePlan {
    let mut planner = Planner::new(&batch.routed.route, module);
    planner.plan(batch, generation)
}

impl Planner {
    /// A planner for the route's batches; `module` is the SHA-256 of the guest, in hexadecimal.
    pub fn new(route: &RouteSettings, module: &str) -> Self {
        let mut sinks: Vec<(usize, Vec<Arc<TargetSettings>>)> = Vec::new();
        for target in &route.targets {
            match sinks.iter_mut().find(|(sink, _)| *sink == target.sink) {
                Some((_, targets)) => targets.push(Arc::clone(target)),
                None => sinks.push((target.sink, vec![Arc::clone(target)])),
            }
        }
        let tables = sinks.iter().map(|_| KeyTable::default()).collect();
        let capacity = vec![0; sinks.len()];
        Self { digest: module.into(), module: digits(module), sinks, tables, capacity }
    }

    /// Empty writes to each sink.
    fn begin(&self, routed: &RoutedBatch, module: &Arc<str>) -> Vec<SinkWrites> {
        let sinks = self.sinks.iter().zip(&self.capacity).map(|((sink, targets), capacity)| SinkWrites {
            sink: *sink,
            partition: routed.batch.records.source.partition,
            module: Arc::clone(module),
            targets: targets.clone(),
            writes: Vec::with_capacity(routed.batch.events.len()),
            bytes: Vec::with_capacity(*capacity),
        });
        sinks.collect()
    }

    /// Plans one batch.
    pub fn plan(&mut self, batch: GuestBatch, generation: Generation) -> WritePlan {
        let GuestBatch { routed, groups, mut faults, canary } = batch;
        self.tables.iter_mut().for_each(KeyTable::clear);
        let mut sinks = self.begin(&routed, &self.module);
        if let Some(CanaryAnswers { canary, .. }) = &canary {
            // Beside the first module's: each write is stored with the digest of the module that made it.
            sinks.extend(self.begin(&routed, &digits(&canary.module)));
            self.tables.resize_with(sinks.len(), KeyTable::default);
        }
        let mut work = Work::new(&routed, &faults, generation, sinks, &mut self.tables);
        for group in &groups {
            work.group(group);
        }
        work.settle_record();
        work.first_sink = self.sinks.len();
        for group in canary.iter().flat_map(|canary| &canary.groups) {
            work.group(group);
        }
        work.settle_record();
        let all: Vec<&GuestGroup> = groups.iter().chain(canary.iter().flat_map(|canary| &canary.groups)).collect();
        let marks = work.marks(&all);
        let (sinks, records, own_faults) = (work.sinks, work.records, work.faults);
        for (capacity, sink) in self.capacity.iter_mut().zip(&sinks) {
            *capacity = sink.bytes.len();
        }
        let canary = canary.map(|answers| answers.canary);
        let RoutedBatch { batch, faults: mut all_faults, .. } = routed;
        all_faults.append(&mut faults);
        all_faults.extend(own_faults);
        let mut changed_at = vec![None; records.len()];
        for event in &batch.events {
            if let Some(place) = changed_at.get_mut(event.record as usize) {
                *place = Some((event.changed_at_us, event.snapshot != Snapshot::No));
            }
        }
        let mut planned: Vec<_> = records.iter().map(|record| record.planned()).collect();
        let truncate = batch.truncates.last().copied();
        for earlier in batch.truncates.iter().filter(|index| Some(**index) != truncate) {
            if let Some(planned) = planned.get_mut(*earlier as usize) {
                *planned = Planned::Superseded;
            }
        }
        let (module, faults) = (Arc::clone(&self.digest), one_a_record(all_faults));
        WritePlan { planned, module, canary, records: batch.records, changed_at, sinks, faults, marks, truncate }
    }

    /// What of a guest's answers can't be stored. Nothing else of the plan is kept: another guest may still decide these records. `faults` are
    /// those that the guest has made already.
    pub fn unstorable(
        &mut self,
        routed: &RoutedBatch,
        groups: &[GuestGroup],
        faults: &[RecordFault],
        generation: Generation,
    ) -> Vec<RecordFault> {
        self.tables.iter_mut().for_each(KeyTable::clear);
        let sinks = self.begin(routed, &self.module);
        let mut work = Work::new(routed, faults, generation, sinks, &mut self.tables);
        for group in groups {
            work.group(group);
        }
        work.settle_record();
        work.faults
    }
}

fn digits(digest: &str) -> Arc<str> {
    digest.get(..MODULE_DIGITS).unwrap_or(digest).into()
}

/// A record that makes two events may have two faults; the first says enough.
fn one_a_record(mut faults: Vec<RecordFault>) -> Vec<RecordFault> {
    faults.sort_by_key(|fault| fault.record);
    faults.dedup_by_key(|fault| fault.record);
    faults
}

#[derive(Clone, Copy, Default)]
pub(super) struct Record {
    /// Writes of the record that no later one displaced.
    live: u32,
    wrote: bool,
    pub(super) faulty: bool,
}

impl Record {
    fn planned(self) -> Planned {
        match self {
            Self { faulty: true, .. } => Planned::Faulty,
            Self { live: 1.., .. } => Planned::Writes,
            Self { wrote: true, .. } => Planned::Superseded,
            Self { .. } => Planned::Filtered,
        }
    }
}

/// Where an output's writes go: index of the sink, index of the target among the sink's.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Destination {
    sink: usize,
    target: u32,
}

struct Destinations {
    /// One for each output.
    outputs: Vec<Destination>,
    /// One output for each target that is written with the default key.
    defaults: Vec<(usize, Destination)>,
    /// Targets that no output names.
    unnamed: Vec<(Arc<TargetSettings>, Destination)>,
}

pub(super) struct Work<'a> {
    pub(super) generation: Generation,
    pub(super) routed: &'a RoutedBatch,
    pub(super) sinks: Vec<SinkWrites>,
    /// Where the sinks of the module at hand begin: 0, or behind those of the first.
    first_sink: usize,
    tables: &'a mut [KeyTable],
    pub(super) records: Vec<Record>,
    /// Writes of the current record, which take effect together or not at all.
    staged: Vec<(usize, FencedWrite)>,
    current: Option<u32>,
    failure: Option<Error>,
    faults: Vec<RecordFault>,
}

/// The event that is being planned.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) event: &'a ChangeEvent,
    pub(super) opened: &'a OpenedSchema,
    pub(super) answer: &'a Cells,
    pub(super) rows: &'a Cells,
    pub(super) fence: Fence,
}

impl<'a> Work<'a> {
    fn new(
        routed: &'a RoutedBatch,
        faults: &[RecordFault],
        generation: Generation,
        sinks: Vec<SinkWrites>,
        tables: &'a mut [KeyTable],
    ) -> Self {
        let mut records = vec![Record::default(); routed.batch.records.records.len()];
        for fault in routed.faults.iter().chain(faults) {
            if let Some(record) = records.get_mut(fault.record as usize) {
                record.faulty = true;
            }
        }
        let (staged, faults) = (Vec::new(), Vec::new());
        Self { generation, routed, sinks, first_sink: 0, tables, records, staged, current: None, failure: None, faults }
    }

    fn group(&mut self, group: &'a GuestGroup) {
        let Some(destinations) = self.destinations(&group.opened) else { return };
        let mut writes = group.writes.as_slice();
        for &index in &group.events {
            let own = writes.iter().take_while(|w| w.event == index).count();
            let (of_event, behind) = writes.split_at(own);
            writes = behind;
            let Some(event) = self.routed.batch.events.get(index as usize) else { continue };
            if self.current != Some(event.record) {
                self.settle_record();
                self.current = Some(event.record);
            }
            if self.failure.is_some() || self.records.get(event.record as usize).is_none_or(|r| r.faulty) {
                continue;
            }
            if let Err(error) = self.event(group, event, of_event, &destinations) {
                self.failure = Some(error);
            }
        }
    }

    /// `None` for a group of another route, which no caller has.
    fn destinations(&self, opened: &OpenedSchema) -> Option<Destinations> {
        let outputs = opened.outputs.iter().map(|output| self.destination(&output.target)).collect::<Option<Vec<_>>>()?;
        let mut defaults: Vec<(usize, Destination)> = Vec::new();
        for (index, (output, destination)) in opened.outputs.iter().zip(&outputs).enumerate() {
            if output.key.is_empty() && !defaults.iter().any(|(_, known)| known == destination) {
                defaults.push((index, *destination));
            }
        }
        let unnamed =
            opened.unnamed(&self.routed.route).filter_map(|target| Some((Arc::clone(target), self.destination(target)?))).collect();
        Some(Destinations { outputs, defaults, unnamed })
    }

    fn destination(&self, target: &Arc<TargetSettings>) -> Option<Destination> {
        let sink = self.first_sink + self.sinks.iter().skip(self.first_sink).position(|s| s.sink == target.sink)?;
        let place = self.sinks.get(sink)?.targets.iter().position(|t| t.name == target.name)?;
        Some(Destination { sink, target: place as u32 })
    }

    /// The current record's writes take effect, or its failure does.
    fn settle_record(&mut self) {
        let Some(record) = self.current.take() else { return };
        if let Some(error) = self.failure.take() {
            self.staged.clear();
            if let Some(state) = self.records.get_mut(record as usize) {
                state.faulty = true;
            }
            self.faults.push(RecordFault { record, fault: Fault::Plan(error) });
            return;
        }
        for (sink, write) in self.staged.drain(..) {
            let (Some(writes), Some(table)) = (self.sinks.get_mut(sink), self.tables.get_mut(sink)) else { continue };
            let displaced = table.put(writes, write);
            if let Some(old) = displaced.and_then(|old| self.records.get_mut(old as usize)) {
                old.live -= 1;
            }
            if let Some(state) = self.records.get_mut(record as usize) {
                state.live += 1;
                state.wrote = true;
            }
        }
    }

    fn event(&mut self, group: &'a GuestGroup, event: &'a ChangeEvent, writes: &[GuestWrite], to: &Destinations) -> Result<(), Error> {
        // A guest that saw the delete itself has already said what the row has; the null value behind it says nothing more.
        if group.opened.sees_deletes && event.follows_own_delete {
            return Ok(());
        }
        let fence = Fence::new(self.generation, event.offset).ok_or(Error::Offset { offset: event.offset })?;
        let row = Row { event, opened: &group.opened, answer: &group.cells, rows: &self.routed.batch.cells, fence };
        let first = self.staged.len();
        for write in writes {
            match write.action {
                GuestAction::Put { output, first_cell, ttl_seconds } => self.put(row, output as usize, first_cell, ttl_seconds, to)?,
                GuestAction::Delete { output, first_cell } => self.delete(row, output as usize, first_cell, to)?,
                GuestAction::Skip => {}
            }
        }
        self.check_puts(first)?;
        // The answer says all that the row has: a target with the default key that it does not mention has nothing.
        for &(output, destination) in &to.defaults {
            let mentioned = |write: &GuestWrite| match write.action {
                GuestAction::Put { output, .. } | GuestAction::Delete { output, .. } => {
                    to.outputs.get(output as usize) == Some(&destination)
                        && row.opened.outputs.get(output as usize).is_some_and(|o| o.key.is_empty())
                }
                GuestAction::Skip => false,
            };
            if !writes.iter().any(mentioned) {
                self.delete(row, output, 0, to)?;
            }
        }
        for (target, destination) in &to.unnamed {
            self.delete_unnamed(row, target, *destination);
        }
        Ok(())
    }

    /// Two puts of one event to one key leave open what the row has.
    fn check_puts(&self, first: usize) -> Result<(), Error> {
        let staged = self.staged.get(first..).unwrap_or_default();
        let puts = || staged.iter().filter(|(_, write)| write.document.is_some());
        let key = |(sink, write): &(usize, FencedWrite)| self.sinks.get(*sink).map(|writes| (*sink, write.target, writes.slice(write.key)));
        let twice = if staged.len() <= FEW_WRITES {
            puts().enumerate().find(|(at, put)| puts().take(*at).any(|other| key(other) == key(put))).map(|(_, put)| put)
        } else {
            let mut keys = FxHashSet::default();
            puts().find(|put| !keys.insert(key(put)))
        };
        let Some((sink, write)) = twice else { return Ok(()) };
        let target = self.sinks.get(*sink).and_then(|writes| writes.targets.get(write.target as usize)).map(|target| target.name.clone());
        Err(Error::TwoPuts { target: target.unwrap_or_default() })
    }

    fn delete(&mut self, row: Row<'a>, output: usize, first_cell: u32, to: &Destinations) -> Result<(), Error> {
        let (Some(&destination), Some(shape)) = (to.outputs.get(output), row.opened.outputs.get(output)) else { return Ok(()) };
        let Some(sink) = self.sinks.get_mut(destination.sink) else { return Ok(()) };
        let key = write_key(&mut sink.bytes, row, shape, first_cell)?;
        self.staged.push((destination.sink, deleted(row, destination, key)));
        Ok(())
    }

    /// What another module has written there is the row's no more. A key that can't be encoded can't be held by the store either.
    fn delete_unnamed(&mut self, row: Row<'a>, target: &TargetSettings, destination: Destination) {
        let Some(sink) = self.sinks.get_mut(destination.sink) else { return };
        let start = sink.bytes.len();
        match default_key(&mut sink.bytes, target, &row.opened.schema, row.event, row.rows) {
            Ok(key) => self.staged.push((destination.sink, deleted(row, destination, key))),
            Err(_) => sink.bytes.truncate(start),
        }
    }

    fn put(&mut self, row: Row<'a>, output: usize, first_cell: u32, ttl: u32, to: &Destinations) -> Result<(), Error> {
        let (Some(&destination), Some(shape)) = (to.outputs.get(output), row.opened.outputs.get(output)) else { return Ok(()) };
        let Some(sink) = self.sinks.get_mut(destination.sink) else { return Ok(()) };
        let target = &shape.target;
        let refuse = |refused: Refused| Error::Field { target: target.name.clone(), field: refused.field.into(), why: refused.why };
        let key = write_key(&mut sink.bytes, row, shape, first_cell)?;
        let out = &mut sink.bytes;
        let start = out.len();
        let first_field = first_cell as usize + shape.key.len();
        let cell = |index: u32| Cell::resolve(row.answer, first_field + index as usize, row.event, row.rows);
        let content = match &target.place {
            Place::MongoDb { .. } => {
                let document = bson::begin(out);
                if let Some((&kind, _)) = out.get(key.start..).and_then(<[u8]>::split_first) {
                    out.push(kind);
                    out.extend_from_slice(b"_id\0");
                    out.extend_from_within(key.start + 1..key.start + key.len);
                }
                bson::elements(out, &shape.shape, cell).map_err(refuse)?;
                let content = xxh3_64(out.get(document + 4..).unwrap_or_default());
                version(out, row.fence, sink.partition, &sink.module, content);
                bson::end(out, document);
                content
            }
            Place::Redis { form, .. } => {
                match form {
                    RedisForm::String | RedisForm::Json => json::document(out, &shape.shape, cell),
                    RedisForm::Hash => json::hash(out, &shape.shape, cell),
                }
                .map_err(refuse)?;
                xxh3_64(out.get(start..).unwrap_or_default())
            }
        };
        let len = out.len() - start;
        if len + key.len > MAX_DOCUMENT_BYTES {
            out.truncate(start);
            return Err(Error::TooLarge { target: target.name.clone(), bytes: len + key.len });
        }
        let ttl_seconds = match target.place {
            Place::MongoDb { .. } => 0,
            Place::Redis { .. } if ttl != 0 => ttl,
            Place::Redis { .. } => target.ttl_seconds.unwrap_or(0),
        };
        let document = Some(Bytes { start, len });
        let write =
            FencedWrite { target: destination.target, record: row.event.record, fence: row.fence, key, document, ttl_seconds, content };
        self.staged.push((destination.sink, write));
        Ok(())
    }
}

fn deleted(row: Row<'_>, Destination { target, .. }: Destination, key: Bytes) -> FencedWrite {
    FencedWrite { target, record: row.event.record, fence: row.fence, key, document: None, ttl_seconds: 0, content: 0 }
}

/// The version, as the last field of a MongoDB document (docs/decisions/0006-stored-version.md).
fn version(out: &mut Vec<u8>, fence: Fence, partition: i32, module: &str, content: u64) {
    out.push(bson::DOCUMENT);
    out.extend_from_slice(b"_sync\0");
    let start = bson::begin(out);
    out.push(bson::INT64);
    out.extend_from_slice(b"v\0");
    bson::int64(out, fence.number());
    out.push(bson::INT32);
    out.extend_from_slice(b"p\0");
    out.extend_from_slice(&partition.to_le_bytes());
    out.push(bson::STRING);
    out.extend_from_slice(b"m\0");
    bson::string(out, module.as_bytes());
    out.push(bson::INT64);
    out.extend_from_slice(b"h\0");
    bson::int64(out, content as i64);
    bson::end(out, start);
}

pub(super) fn write_key(out: &mut Vec<u8>, row: Row<'_>, output: &crate::transform::Output, first_cell: u32) -> Result<Bytes, Error> {
    if output.key.is_empty() {
        return default_key(out, &output.target, &row.opened.schema, row.event, row.rows);
    }
    let start = out.len();
    let columns = &row.opened.schema.primary_key;
    let first = first_cell as usize;
    let parts = (first..first + output.key.len()).map(|at| {
        let cell = Cell::resolve(row.answer, at, row.event, row.rows);
        let is_reference = matches!(row.answer.tags.get(at), Some(&(TAG_AFTER | TAG_BEFORE)));
        (cell, is_reference && cell.column.is_some_and(|c| columns.contains(&c)))
    });
    let written = write_parts(out, &output.target, parts, output.key.iter().map(|name| &**name));
    written.map_err(|why| Error::Key { target: output.target.name.clone(), why })?;
    Ok(Bytes { start, len: out.len() - start })
}

/// The key of the row's primary key.
pub(super) fn default_key(
    out: &mut Vec<u8>,
    target: &TargetSettings,
    schema: &TableSchema,
    event: &ChangeEvent,
    rows: &Cells,
) -> Result<Bytes, Error> {
    let start = out.len();
    let image = event.key_image().unwrap_or(u32::MAX) as usize;
    let parts = schema.primary_key.iter().map(|column| (Cell::read(rows, image.saturating_add(*column as usize)), true));
    let name = |column: &u32| schema.columns.get(*column as usize).map_or("", |c| &*c.name);
    let written = write_parts(out, target, parts, schema.primary_key.iter().map(name));
    written.map_err(|why| Error::Key { target: target.name.clone(), why })?;
    Ok(Bytes { start, len: out.len() - start })
}

fn write_parts<'a, 'n>(
    out: &mut Vec<u8>,
    target: &TargetSettings,
    parts: impl ExactSizeIterator<Item = (Cell<'a>, bool)>,
    names: impl Iterator<Item = &'n str>,
) -> Result<(), super::Unstorable> {
    match &target.place {
        Place::Redis { prefix, .. } => key::redis(out, prefix, parts),
        Place::MongoDb { .. } => key::mongodb(out, parts, names),
    }
}
