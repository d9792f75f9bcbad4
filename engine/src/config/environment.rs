//! Environment variables over the file: `STREAMSYNC_` and the key's path in upper case, `__` between its parts.
//!
//! `STREAMSYNC_SINKS__REDIS__URL` is `sinks.redis.url`; a route is named by its name or its index
//! (`STREAMSYNC_ROUTES__ORDERS__TOPIC`, `STREAMSYNC_ROUTES__0__TOPIC`); `-` and `.` in a name are written `_`; below
//! `kafka.properties` a `_` is a `.`.

use super::fault::{Origin, Report, Spot};
use super::tree::{Node, Table, Value};

const PREFIX: &str = "STREAMSYNC_";
/// Read by the command line.
const OF_THE_COMMAND_LINE: [&str; 3] = ["STREAMSYNC_CONFIG", "STREAMSYNC_LOG_FORMAT", "STREAMSYNC_LOG_LEVEL"];

/// Lays the variables over the file's tree.
pub(super) fn overlay(root: &mut Table, variables: &[(String, String)], report: &Report) {
    let mut ours: Vec<_> = variables.iter().filter(|(name, _)| is_setting(name)).collect();
    ours.sort();
    for (name, value) in ours {
        let path = name.trim_start_matches(PREFIX).to_ascii_lowercase();
        let parts: Vec<&str> = path.split("__").collect();
        let origin = Origin::Variable(name.clone());
        if parts.iter().any(|part| part.is_empty()) {
            let spot = Spot { origin, key: String::new() };
            report.fault(&spot, "the name has an empty part", "write __ between two parts of a key's path, and nowhere else");
            continue;
        }
        if let Err((message, remedy)) = place_in(root, &parts, &[], &origin, value) {
            report.fault(&Spot { origin, key: parts.join(".") }, message, remedy);
        }
    }
}

/// Kubernetes gives each container the addresses of all services; those of a service named "streamsync" are no settings.
fn is_setting(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let of_a_service = ["SERVICE_HOST", "SERVICE_PORT", "PORT"].iter().any(|s| rest == *s || rest.starts_with(&format!("{s}_")));
    !OF_THE_COMMAND_LINE.contains(&name) && (!of_a_service || rest.contains("__"))
}

type Misplaced = (String, String);

fn place_in(table: &mut Table, parts: &[&str], above: &[&str], origin: &Origin, value: &str) -> Result<(), Misplaced> {
    let [part, below @ ..] = parts else { return Ok(()) };
    let known = table.keys().find(|key| as_variable(key) == *part).cloned();
    let new = || if above == ["kafka", "properties"] { part.replace('_', ".") } else { (*part).to_owned() };
    let key = known.unwrap_or_else(new);
    if below.is_empty() {
        table.insert(key, Node { origin: origin.clone(), value: Value::Raw(value.to_owned()) });
        return Ok(());
    }
    let list = above.is_empty() && *part == "routes";
    let empty = if list { Value::Array(Vec::new()) } else { Value::Table(Table::new()) };
    let node = table.entry(key).or_insert_with(|| Node { origin: origin.clone(), value: empty });
    let above = [above, &[part]].concat();
    match &mut node.value {
        Value::Table(inner) => place_in(inner, below, &above, origin, value),
        Value::Array(elements) if list => {
            let inner = element(elements, below, origin)?;
            place_in(inner, below.get(1..).unwrap_or_default(), &above, origin, value)
        }
        Value::Array(_) | Value::Text(_) | Value::Raw(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Err((
            format!("`{part}` is {}, it has no keys below it", node.value.name()),
            format!("set {PREFIX}{} as a whole", above.join("__").to_ascii_uppercase()),
        )),
    }
}

/// The route that the first part names, by index or by name; the index behind the last makes a new one.
fn element<'t>(elements: &'t mut Vec<Node>, parts: &[&str], origin: &Origin) -> Result<&'t mut Table, Misplaced> {
    let [part, rest @ ..] = parts else { return Err((String::new(), String::new())) };
    let unknown = || {
        let message = format!("there is no route `{part}`");
        (message, "name a route by its name in the file or by its index; the index behind the last one makes a new route".to_owned())
    };
    if rest.is_empty() {
        return Err((format!("`{part}` names a route and no key of it"), "add __ and the key".to_owned()));
    }
    let named = elements.iter().position(|node| matches!(&node.value, Value::Table(t) if route_name(t).is_some_and(|n| n == *part)));
    let index = named.or_else(|| part.parse().ok()).ok_or_else(unknown)?;
    if index == elements.len() {
        elements.push(Node { origin: origin.clone(), value: Value::Table(Table::new()) });
    }
    match elements.get_mut(index) {
        Some(Node { value: Value::Table(table), .. }) => Ok(table),
        _ => Err(unknown()),
    }
}

fn route_name(table: &Table) -> Option<String> {
    match &table.get("name")?.value {
        Value::Text(text) | Value::Raw(text) => Some(as_variable(text)),
        _ => None,
    }
}

fn as_variable(key: &str) -> String {
    key.to_ascii_lowercase().replace(['-', '.'], "_")
}
