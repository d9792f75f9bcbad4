//! The component's exports, generated from `wit/`, and their way to [`Guest`]. Bulk data moves; nothing of it is copied here.
#![allow(missing_docs, unsafe_code, unreachable_pub, reason = "the bindings are generated")]

use crate::contract::{Batch, Cells, ColumnSchema, Context, Plan, TableSchema, Target};
use crate::{Guest, Transform};

wit_bindgen::generate!({
    path: "../../wit",
    world: "transformer",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "streamsync_sdk::component",
});

use exports::streamsync::transform::transform as exported;
use streamsync::transform::types;

/// Where a component keeps its transform: [`crate::export`] implements it.
pub trait Instance: 'static {
    type Transform: Transform;

    fn with<R>(call: impl FnOnce(&mut Option<Guest<Self::Transform>>) -> R) -> R;
}

impl<I: Instance> exported::Guest for I {
    fn describe() -> exported::Description {
        exported::Description {
            name: I::Transform::NAME.to_owned(),
            version: I::Transform::VERSION.to_owned(),
            config_schema: I::Transform::CONFIG_SCHEMA.map(str::to_owned),
        }
    }

    fn init(context: exported::Context) -> Result<(), String> {
        let targets = context.targets.into_iter().map(|target| Target { name: target.name, sink: target.sink }).collect();
        let guest = Guest::init(Context { config: context.config, targets })?;
        I::with(|instance| *instance = Some(guest));
        Ok(())
    }

    fn open(schema: types::TableSchema) -> Result<types::Plan, String> {
        let schema = read_schema(schema);
        let plan = I::with(|instance| instance.as_mut().ok_or_else(not_initialised)?.open(&schema))?;
        Ok(write_plan(plan))
    }

    fn apply(batch: types::Batch) -> Result<types::Outcome, String> {
        let types::Batch { schema, partition, events, cells } = batch;
        let types::Cells { tags, words, heap } = cells;
        let batch = Batch { schema, partition, events, cells: Cells { tags, words, heap } };
        let outcome = I::with(|instance| instance.as_mut().ok_or_else(not_initialised)?.apply(&batch))?;
        let Cells { tags, words, heap } = outcome.cells;
        Ok(types::Outcome { steps: outcome.steps, cells: types::Cells { tags, words, heap } })
    }
}

fn not_initialised() -> String {
    "init was not called, or it failed".to_owned()
}

fn read_schema(schema: types::TableSchema) -> TableSchema {
    let columns = schema.columns.into_iter().map(|column| ColumnSchema {
        name: column.name,
        tag: column.tag,
        nullable: column.nullable,
        length: column.length,
        scale: column.scale,
        source_type: column.source_type,
    });
    TableSchema {
        id: schema.id,
        database: schema.database,
        table: schema.table,
        columns: columns.collect(),
        primary_key: schema.primary_key,
    }
}

fn write_plan(plan: Plan) -> types::Plan {
    let outputs = plan.outputs.into_iter().map(|output| types::Output { target: output.target, key: output.key, fields: output.fields });
    types::Plan { before: plan.before, after: plan.after, sees_deletes: plan.sees_deletes, outputs: outputs.collect() }
}
