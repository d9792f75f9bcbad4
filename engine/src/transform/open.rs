//! What a guest wants for a schema, checked before the first batch.

use std::sync::{Arc, Mutex, PoisonError};

use super::bindings::streamsync::transform::types;
use super::shape::Shape;
use super::{OpenedSchema, Output};
use crate::change::TableSchema;
use crate::config::{Place, RouteSettings, TargetSettings};

/// Most outputs of one schema.
const MAX_OUTPUTS: usize = 64;
/// Most parts of a key.
const MAX_KEY_PARTS: usize = 16;
const MAX_KEY_NAME_BYTES: usize = 256;

impl OpenedSchema {
    /// What the guest may read and write, or why it may not.
    pub fn new(schema: Arc<TableSchema>, route: &RouteSettings, plan: types::Plan) -> Result<Self, String> {
        for column in plan.before.iter().chain(&plan.after) {
            if *column as usize >= schema.columns.len() {
                return Err(format!("it asks for column {column} of {}, numbers begin with 0", schema.columns.len()));
            }
        }
        if plan.before.len().max(plan.after.len()) > schema.columns.len() {
            return Err("it asks for a column twice".into());
        }
        if plan.outputs.len() > MAX_OUTPUTS {
            return Err(format!("it has {} outputs, at most {MAX_OUTPUTS} are allowed", plan.outputs.len()));
        }
        let outputs = plan.outputs.into_iter().map(|output| checked(output, &schema, route)).collect::<Result<Vec<_>, _>>()?;
        let (before, after, sees_deletes) = (plan.before, plan.after, plan.sees_deletes);
        Ok(Self { schema, before, after, sees_deletes, outputs, key_layouts: KeyLayouts::default() })
    }

    /// For rows that are gone, where the guest has not said what it writes: each target that is written by the row's own key may hold one.
    pub(super) fn of_deletes(schema: Arc<TableSchema>, route: &RouteSettings) -> Self {
        let targets = route.targets.iter().filter(|target| holds_own_keys(target, &schema));
        let output = |target: &Arc<TargetSettings>| Output {
            target: Arc::clone(target),
            key: Vec::new(),
            fields: Vec::new(),
            shape: Shape { ops: Vec::new(), whole: false },
        };
        let outputs = targets.map(output).collect();
        Self { schema, before: Vec::new(), after: Vec::new(), sees_deletes: false, outputs, key_layouts: KeyLayouts::default() }
    }

    /// The route's targets that no output names, and that may hold a document at the row's own key: one of the module before.
    pub(crate) fn unnamed<'r>(&'r self, route: &'r RouteSettings) -> impl Iterator<Item = &'r Arc<TargetSettings>> {
        let is_named = |target: &TargetSettings| self.outputs.iter().any(|output| output.target.name == target.name);
        route.targets.iter().filter(move |target| !is_named(target) && holds_own_keys(target, &self.schema))
    }

    /// The targets in which every event of the schema writes or deletes the row's own key; one for each output that has it.
    pub(crate) fn by_own_key<'r>(&'r self, route: &'r RouteSettings) -> impl Iterator<Item = &'r Arc<TargetSettings>> {
        let named = self.outputs.iter().filter(|output| output.key.is_empty()).map(|output| &output.target);
        named.chain(self.unnamed(route))
    }
}

/// Whether a target may hold documents at the rows' own keys. Where keys have parts of the guest's own, nobody knows them.
pub(crate) fn holds_own_keys(target: &TargetSettings, schema: &TableSchema) -> bool {
    !target.explicit_keys && check_own_key(target, schema).is_ok()
}

/// Why a target can't hold documents at the rows' own keys, and what to do.
fn check_own_key(target: &TargetSettings, schema: &TableSchema) -> Result<(), String> {
    let name = &target.name;
    if schema.primary_key.is_empty() {
        return Err(format!("table {} has no primary key: the output to target {name} must name the parts of its key", schema.table));
    }
    let column = |index: &u32| schema.columns.get(*index as usize).map_or("", |column| &*column.name);
    if schema.primary_key.len() > 1
        && let Some(part) = schema.primary_key.iter().map(column).find(|part| is_reserved(target, part))
    {
        return Err(format!("key column {part} begins with $, which MongoDB refuses in _id: name the key's parts for target {name}"));
    }
    Ok(())
}

fn is_reserved(target: &TargetSettings, part: &str) -> bool {
    matches!(target.place, Place::MongoDb { .. }) && part.starts_with('$')
}

fn checked(output: types::Output, schema: &TableSchema, route: &RouteSettings) -> Result<Output, String> {
    let Some(target) = route.targets.iter().find(|target| target.name == output.target) else {
        let known: Vec<&str> = route.targets.iter().map(|target| target.name.as_str()).collect();
        return Err(format!(
            "it writes to target {:?}, route {} has {}",
            super::instance::shown(output.target),
            route.name,
            known.join(", ")
        ));
    };
    check_key(&output.key, target, schema)?;
    let shape = Shape::new(target, &output.fields)?;
    let names = |names: Vec<String>| names.into_iter().map(String::into_boxed_str).collect();
    Ok(Output { target: Arc::clone(target), key: names(output.key), fields: names(output.fields), shape })
}

fn check_key(key: &[String], target: &TargetSettings, schema: &TableSchema) -> Result<(), String> {
    let name = &target.name;
    if key.is_empty() {
        return check_own_key(target, schema);
    }
    if !target.explicit_keys {
        return Err(format!("it names key parts for target {name}: set explicit_keys = true on the target to allow that"));
    }
    if key.len() > MAX_KEY_PARTS {
        return Err(format!("the key for target {name} has {} parts, at most {MAX_KEY_PARTS} are allowed", key.len()));
    }
    for (at, part) in key.iter().enumerate() {
        if part.is_empty() || part.len() > MAX_KEY_NAME_BYTES || part.contains('\0') || is_reserved(target, part) {
            return Err(format!("a key part for target {name} has no usable name: it is empty, too long, contains NUL or begins with $"));
        }
        if key.iter().take(at).any(|other| other == part) {
            return Err(format!("two key parts for target {name} are called {part}"));
        }
    }
    Ok(())
}

/// Where the keys of a target with so many parts hold the primary-key columns.
///
/// Each key holds all of them. As long as they also stand at the same places in every key, two rows can't share one; (1, 2) of
/// one row and (2, 1) of another would, if a guest swapped the parts from row to row. The first good answer fixes the places.
#[derive(Debug, Default)]
pub(crate) struct KeyLayouts(Mutex<Vec<Layout>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) target: String,
    pub(super) parts: usize,
    /// The part that holds each primary-key column.
    pub(super) places: Vec<usize>,
}

impl KeyLayouts {
    /// Whether the layouts of one answer agree with the known ones; if so, they are known from now on.
    pub(super) fn agree(&self, opened: &OpenedSchema, found: &[Layout]) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own_key = |layout: &Layout| {
            opened.outputs.iter().any(|o| o.key.is_empty() && o.target.name == layout.target)
                && layout.parts == opened.schema.primary_key.len()
        };
        let in_order = |layout: &Layout| layout.places.iter().copied().eq(0..layout.parts);
        let same = |a: &Layout, b: &Layout| a.target != b.target || a.parts != b.parts || a.places == b.places;
        let all_agree = found.iter().enumerate().all(|(at, layout)| {
            (!own_key(layout) || in_order(layout)) && known.iter().chain(found.iter().take(at)).all(|other| same(other, layout))
        });
        if all_agree {
            for layout in found {
                if !known.contains(layout) {
                    known.push(layout.clone());
                }
            }
        }
        all_agree
    }
}
