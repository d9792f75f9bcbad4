//! `streamsync transform inspect`: what a module is.

use std::path::Path;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use wit_component::DecodedWasm;

use super::Stop;
use super::report::size;
use super::subject::{Subject, SubjectArguments, read_route};
use super::trial::{Trial, stop};
use crate::cli::say;
use crate::recording::RecordedEvent;
use crate::transform::{CONTRACT_VERSIONS, OpenedSchema, check_kind, contract_of};

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct InspectArguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// Form of what is said.
    #[arg(long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    format: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

/// What a component says of itself before it is run.
#[derive(Debug, Serialize)]
pub(super) struct Outside {
    pub(super) bytes: usize,
    pub(super) sha256: String,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    /// The version of the contract that it is made for.
    pub(super) contract: Option<String>,
}

#[derive(Debug, Serialize)]
struct Inspected {
    module: String,
    name: String,
    version: String,
    #[serde(flatten)]
    outside: Outside,
    memory_bytes: usize,
    config_schema: Option<serde_json::Value>,
    tables: Vec<Table>,
}

/// What it reads and writes of a table whose events are known.
#[derive(Debug, Serialize)]
struct Table {
    table: String,
    reads: Vec<String>,
    reads_before: Vec<String>,
    sees_deletes: bool,
    outputs: Vec<Output>,
    /// Why it refuses the table.
    refused: Option<String>,
}

#[derive(Debug, Serialize)]
struct Output {
    target: String,
    key: Vec<String>,
    fields: Vec<String>,
    deleted_by: DeletedBy,
}

/// Who deletes an output's document when its row is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum DeletedBy {
    Transform,
    Engine,
    /// The engine does not know the keys that a transform makes.
    Nobody,
}

impl DeletedBy {
    fn of(opened: &OpenedSchema, output: &crate::transform::Output) -> Self {
        match (opened.sees_deletes, output.key.is_empty()) {
            (true, _) => Self::Transform,
            (false, true) => Self::Engine,
            (false, false) => Self::Nobody,
        }
    }
}

/// Looks at a module, and at what it opens of the tables of recorded events.
pub(super) fn inspect(arguments: &InspectArguments) -> Result<(), Stop> {
    let path = arguments.subject.module()?;
    let outside = outside(&path)?;
    let subject = if arguments.subject.has_events()? { Some(arguments.subject.read(None)?) } else { None };
    let (route, settings) = match &subject {
        Some(subject) => (Arc::clone(&subject.route), subject.settings.clone()),
        None => read_route(&path, None, &[a_record()])?,
    };
    let trial = Trial::new(route, &settings)?;
    // A module may need a config that nobody has given: what it says of itself is known all the same.
    let memory_bytes = trial.memory_at_start();
    let tables = subject.as_ref().map(|subject| tables(&trial, subject)).transpose()?.unwrap_or_default();
    let module = &trial.module;
    let config_schema = module.config_schema.as_deref().map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into()));
    let inspected = Inspected {
        module: path.display().to_string(),
        name: module.name.clone(),
        version: module.version.clone(),
        outside,
        memory_bytes: *memory_bytes.as_ref().unwrap_or(&0),
        config_schema,
        tables,
    };
    match arguments.format {
        Form::Json => say(&serde_json::to_string_pretty(&inspected).map_err(|error| Stop::no(error.to_string()))?),
        Form::Text => text(&inspected).iter().for_each(|line| say(line)),
    }
    memory_bytes.map(|_| ())
}

/// Stands for the events of an unknown table.
fn a_record() -> RecordedEvent {
    let value = br#"{"schema":{},"payload":{"source":{"db":"any","table":"any"}}}"#.to_vec();
    RecordedEvent { value: Some(value), ..RecordedEvent::default() }
}

/// Reads a file as a component, whatever version of the contract it is of.
pub(super) fn outside(path: &Path) -> Result<Outside, Stop> {
    let bytes = std::fs::read(path).map_err(|error| Stop::usage(format!("{} can't be read: {error}", path.display())))?;
    let no_component = |why: String| Stop::usage(format!("{}: {why}; `streamsync transform build` makes one of a project", path.display()));
    check_kind(&bytes).map_err(|what| no_component(what.to_owned()))?;
    let (resolve, world) = match wit_component::decode(&bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
        Ok(DecodedWasm::WitPackage(..)) => return Err(no_component("it is a package of interfaces".into())),
        Err(error) => return Err(no_component(format!("it is no WebAssembly component: {error}"))),
    };
    let Some(world) = resolve.worlds.get(world) else { return Err(no_component("it has no world".into())) };
    let names = |items: &mut dyn Iterator<Item = &wit_parser::WorldKey>| items.map(|key| resolve.name_world_key(key)).collect::<Vec<_>>();
    let (imports, exports) = (names(&mut world.imports.keys()), names(&mut world.exports.keys()));
    let contract = contract_of(exports.iter().map(String::as_str));
    Ok(Outside { bytes: bytes.len(), sha256: crate::transform::sha256(&bytes), imports, exports, contract })
}

/// The tables of the events, opened.
fn tables(trial: &Trial<'_>, subject: &Subject) -> Result<Vec<Table>, Stop> {
    let refused = |table: String, error: &crate::transform::Error| Table {
        table,
        reads: Vec::new(),
        reads_before: Vec::new(),
        sees_deletes: false,
        outputs: Vec::new(),
        refused: Some(error.to_string()),
    };
    let opened = trial.opened(&subject.events)?;
    let shown = opened.into_iter().map(|(name, opened)| match opened {
        Ok(opened) => table(name, &opened),
        Err(error) => refused(name, &error),
    });
    Ok(shown.collect())
}

fn table(table: String, opened: &OpenedSchema) -> Table {
    let named = |columns: &[u32]| {
        columns.iter().filter_map(|column| opened.schema.columns.get(*column as usize)).map(|column| column.name.to_string()).collect()
    };
    let texts = |texts: &[Box<str>]| texts.iter().map(ToString::to_string).collect();
    let outputs = opened
        .outputs
        .iter()
        .map(|output| Output {
            target: output.target.name.clone(),
            key: texts(&output.key),
            fields: texts(&output.fields),
            deleted_by: DeletedBy::of(opened, output),
        })
        .collect();
    Table {
        table,
        reads: named(&opened.after),
        reads_before: named(&opened.before),
        sees_deletes: opened.sees_deletes,
        outputs,
        refused: None,
    }
}

/// The lines that `build` shows too.
pub(super) fn outside_text(outside: &Outside) -> Vec<String> {
    let contract = outside.contract.as_ref().map_or_else(
        || "none: it does not export streamsync:transform/transform".to_owned(),
        |version| format!("streamsync:transform@{version} (this engine runs {})", CONTRACT_VERSIONS.join(", ")),
    );
    let imports = if outside.imports.is_empty() { "nothing".to_owned() } else { outside.imports.join(", ") };
    vec![
        format!("contract  {contract}"),
        format!("imports   {imports}"),
        format!("size      {}", size(outside.bytes)),
        format!("sha256    {}", outside.sha256),
    ]
}

fn text(inspected: &Inspected) -> Vec<String> {
    let mut lines = vec![format!("module    {}", inspected.module), format!("name      {} {}", inspected.name, inspected.version)];
    lines.extend(outside_text(&inspected.outside));
    lines.push(format!("memory    {} at the start", size(inspected.memory_bytes)));
    match &inspected.config_schema {
        Some(schema) => lines.push(format!("config    {schema}")),
        None => lines.push("config    no schema".into()),
    }
    if inspected.tables.is_empty() {
        lines.push("tables    unknown before it sees one: name recorded events with --events".into());
    }
    lines.extend(inspected.tables.iter().flat_map(table_text));
    lines
}

fn table_text(table: &Table) -> Vec<String> {
    let mut lines = vec![format!("table     {}", table.table)];
    if let Some(why) = &table.refused {
        lines.push(format!("  refused: {why}"));
        return lines;
    }
    lines.push(format!("  reads   {}", listed(&table.reads)));
    if !table.reads_before.is_empty() {
        lines.push(format!("  before  {}", listed(&table.reads_before)));
    }
    lines.push(format!("  deletes {}", deletes(table)));
    for output in &table.outputs {
        let key = if output.key.is_empty() { "the primary key".to_owned() } else { output.key.join(", ") };
        let kept = if output.deleted_by == DeletedBy::Nobody { ", never deleted" } else { "" };
        lines.push(format!("  target  {}, by {key}{kept}: {}", output.target, listed(&output.fields)));
    }
    lines
}

fn deletes(table: &Table) -> &'static str {
    if table.sees_deletes {
        return "are handled by the transform";
    }
    let nobody_s = |output: &Output| output.deleted_by == DeletedBy::Nobody;
    let of_none = !table.outputs.is_empty() && table.outputs.iter().all(nobody_s);
    match (table.outputs.iter().any(nobody_s), of_none) {
        (false, _) => "are carried out by the engine",
        (true, false) => "are carried out by the engine by the primary key alone: of explicit keys the transform must see them",
        (true, true) => "are carried out by nobody: of explicit keys the transform must see them",
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// Loads a module as a worker would; its message is the worker's.
pub(super) fn load(path: &Path) -> Result<(), Stop> {
    let (route, settings) = read_route(path, None, &[a_record()])?;
    let host = crate::transform::TransformHost::new(&settings.transforms).map_err(|error| stop(&error))?;
    host.load(&route.transform).map(|_| ()).map_err(|error| stop(&error))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::transform::tests::events;
    use crate::transform::wire;

    /// Of what is written by the row's own key the engine deletes; what a transform has made a key of it can't find.
    #[test]
    fn who_deletes_is_told_of_each_output() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let told = |sees_deletes: bool, keys: &[&[&str]]| {
            let routed = events(&[(1, 1)]);
            let outputs = keys.iter().map(|key| wire::Output { target: "t".into(), key: texts(key), fields: texts(&["name"]) }).collect();
            let plan = wire::Plan { before: vec![], after: vec![0], sees_deletes, outputs };
            let schema = routed.batch.schemas.first().expect("one schema");
            let opened = OpenedSchema::new(Arc::clone(schema), &routed.route, plan).expect("allowed");
            let table = table("shop.t".into(), &opened);
            let by: Vec<DeletedBy> = table.outputs.iter().map(|output| output.deleted_by).collect();
            (table_text(&table).get(2..).unwrap_or_default().join("\n"), by)
        };
        let (own, keyed): (&[&str], &[&str]) = (&[], &["id", "name"]);
        let cases = [
            (false, vec![own], "  deletes are carried out by the engine\n  target  t, by the primary key: name", vec![DeletedBy::Engine]),
            (
                false,
                vec![own, keyed],
                "  deletes are carried out by the engine by the primary key alone: of explicit keys the transform must see them\n  \
                 target  t, by the primary key: name\n  target  t, by id, name, never deleted: name",
                vec![DeletedBy::Engine, DeletedBy::Nobody],
            ),
            (
                false,
                vec![keyed],
                "  deletes are carried out by nobody: of explicit keys the transform must see them\n  \
                 target  t, by id, name, never deleted: name",
                vec![DeletedBy::Nobody],
            ),
            (true, vec![keyed], "  deletes are handled by the transform\n  target  t, by id, name: name", vec![DeletedBy::Transform]),
        ];
        for (sees_deletes, keys, lines, by) in cases {
            assert_eq!(told(sees_deletes, &keys), (lines.to_owned(), by));
        }
    }
}
