//! A transform at work: what the component's exports call, and whoever runs a transform natively.

use serde::de::DeserializeOwned;

use crate::Transform;
use crate::changes::Changes;
use crate::contract::{Batch, Context, EVENT_BYTES, Outcome, Plan, TableSchema};
use crate::row::{CellReader, Op, read_row};
use crate::table::Table;

/// An instance of a transform: `init`, then `open` for each schema, then `apply` for each batch.
pub struct Guest<T: Transform> {
    context: Context,
    config: T::Config,
    opened: Vec<Opened<T>>,
    /// Sizes of the last outcome: the next one is likely to need as much.
    last_outcome: [usize; 3],
}

struct Opened<T> {
    schema: u32,
    before: usize,
    after: usize,
    transform: T,
}

impl<T: Transform> Guest<T> {
    /// Reads the route's configuration. An error stops the route.
    pub fn init(context: Context) -> Result<Self, String> {
        let config = read_config(&context.config).map_err(|error| format!("the config of the transform {:?}: {error}", T::NAME))?;
        Ok(Self { context, config, opened: Vec::new(), last_outcome: [0; 3] })
    }

    /// Prepares for the events of a schema. An error dead-letters them.
    pub fn open(&mut self, schema: &TableSchema) -> Result<Plan, String> {
        let table = Table::new(schema, &self.context);
        let transform = T::open(&table, &self.config).map_err(|error| error.to_string())?;
        let plan = table.into_plan();
        self.opened.retain(|opened| opened.schema != schema.id);
        self.opened.push(Opened { schema: schema.id, before: plan.before.len(), after: plan.after.len(), transform });
        Ok(plan)
    }

    /// Says what becomes of each event.
    pub fn apply(&mut self, batch: &Batch) -> Result<Outcome, String> {
        let Some(opened) = self.opened.iter().find(|opened| opened.schema == batch.schema) else {
            return Err(format!("schema {} was not opened", batch.schema));
        };
        let [steps, cells, heap] = self.last_outcome;
        let mut changes = Changes::with_capacity(steps, cells, heap);
        let cells = CellReader::new(&batch.cells);
        let mut first_before = 0;
        for (event, header) in (0..).zip(batch.events.chunks_exact(EVENT_BYTES)) {
            let Some(header) = header.first_chunk() else { continue };
            let first_after = first_before + opened.before;
            let row = read_row(header, batch.partition, cells, first_before, first_after);
            first_before = first_after + opened.after;
            changes.begin_event(event, row.op == Op::Delete);
            let result = opened.transform.event(&row, &mut changes);
            changes.end_event(result);
        }
        let outcome = changes.into_outcome();
        self.last_outcome = [outcome.steps.len(), outcome.cells.tags.len(), outcome.cells.heap.len()];
        Ok(outcome)
    }
}

/// No configuration is an empty one.
fn read_config<C: DeserializeOwned>(json: &str) -> Result<C, serde_json::Error> {
    match json.trim() {
        "" | "null" => serde_json::from_str("{}"),
        json => serde_json::from_str(json),
    }
}
