//! The transform as Rust in this process: the same source, the same lowering, the same checks of its answer; only the call is another.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use orders::Orders;
use streamsync::change::{Op, TableSchema};
use streamsync::config::Settings;
use streamsync::route::RoutedBatch;
use streamsync::transform::{GuestBatch, OpenedSchema, answer, lower, wire};
use streamsync_sdk::{Guest, contract};

/// A guest that is no component.
pub(crate) struct Native {
    guest: Guest<Orders>,
    opened: Option<Arc<OpenedSchema>>,
    lowered: wire::Batch,
    max_output_bytes: usize,
}

impl Native {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let route = settings.routes.first().context("there is no route")?;
        let sink = |index: usize| settings.sinks.get(index).map(|sink| sink.name.clone()).unwrap_or_default();
        let targets = route.targets.iter().map(|target| contract::Target { name: target.name.clone(), sink: sink(target.sink) }).collect();
        let guest = Guest::init(contract::Context { config: route.transform.config.clone(), targets }).map_err(|error| anyhow!(error))?;
        let cells = wire::Cells { tags: Vec::new(), words: Vec::new(), heap: Vec::new() };
        let lowered = wire::Batch { schema: 0, partition: 0, events: Vec::new(), cells };
        Ok(Self { guest, opened: None, lowered, max_output_bytes: route.transform.max_output_bytes })
    }

    /// As the engine's own guest does it, for a batch of one schema.
    pub(crate) fn apply(&mut self, routed: RoutedBatch) -> Result<GuestBatch> {
        let [schema] = routed.batch.schemas.as_slice() else { return Err(anyhow!("a batch has not exactly one schema")) };
        let opened = self.open(schema, &routed)?;
        let events: Vec<u32> = (0..routed.batch.events.len()).map(u32::try_from).collect::<Result<_, _>>()?;
        let is_seen = |index: &u32| routed.batch.events.get(*index as usize).is_some_and(|event| event.op != Op::Delete);
        let seen: Vec<u32> = events.iter().copied().filter(is_seen).collect();
        lower(&opened, &routed.batch, &seen, &mut self.lowered);
        let batch = to_sdk(&mut self.lowered);
        let outcome = self.guest.apply(&batch).map_err(|error| anyhow!(error));
        from_sdk(batch, &mut self.lowered);
        let contract::Outcome { steps, cells: contract::Cells { tags, words, heap } } = outcome?;
        let outcome = wire::Outcome { steps, cells: wire::Cells { tags, words, heap } };
        let answer = answer(&opened, events, &seen, outcome, self.max_output_bytes)?;
        ensure!(answer.rejects.is_empty(), "an event was rejected");
        Ok(GuestBatch { routed, groups: vec![answer.group], faults: Vec::new(), canary: None })
    }

    fn open(&mut self, schema: &Arc<TableSchema>, routed: &RoutedBatch) -> Result<Arc<OpenedSchema>> {
        if let Some(opened) = self.opened.as_ref().filter(|opened| opened.schema.id == schema.id) {
            return Ok(Arc::clone(opened));
        }
        let plan = self.guest.open(&sdk_schema(schema)).map_err(|error| anyhow!(error))?;
        let outputs = plan.outputs.into_iter();
        let outputs = outputs.map(|output| wire::Output { target: output.target, key: output.key, fields: output.fields }).collect();
        let plan = wire::Plan { before: plan.before, after: plan.after, sees_deletes: plan.sees_deletes, outputs };
        ensure!(!plan.sees_deletes, "the transform asks for deletes, and this host has none for it");
        let opened = OpenedSchema::new(Arc::clone(schema), &routed.route, plan).map_err(|error| anyhow!(error))?;
        Ok(Arc::clone(self.opened.insert(Arc::new(opened))))
    }
}

/// The two crates describe one contract with types of their own: vectors move, nothing is copied.
fn to_sdk(batch: &mut wire::Batch) -> contract::Batch {
    let take = std::mem::take::<Vec<u8>>;
    let cells =
        contract::Cells { tags: take(&mut batch.cells.tags), words: take(&mut batch.cells.words), heap: take(&mut batch.cells.heap) };
    contract::Batch { schema: batch.schema, partition: batch.partition, events: take(&mut batch.events), cells }
}

fn from_sdk(batch: contract::Batch, into: &mut wire::Batch) {
    let contract::Cells { tags, words, heap } = batch.cells;
    into.events = batch.events;
    into.cells = wire::Cells { tags, words, heap };
}

fn sdk_schema(schema: &TableSchema) -> contract::TableSchema {
    let columns = schema.columns.iter().map(|column| contract::ColumnSchema {
        name: column.name.to_string(),
        tag: column.tag as u8,
        nullable: column.nullable,
        length: column.length,
        scale: column.scale,
        source_type: column.source_type.to_string(),
    });
    contract::TableSchema {
        id: schema.id,
        database: schema.database.to_string(),
        table: schema.table.to_string(),
        columns: columns.collect(),
        primary_key: schema.primary_key.clone(),
    }
}
