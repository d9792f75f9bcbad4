//! Which files a project has.

use std::collections::BTreeMap;

use super::super::project::{Builder, Language};
use super::embedded::{RUST_FILES, RUST_SDK_FILES, SDK_FILES, TEMPLATE_FILES};

/// The tables that have templates of their own.
pub(super) const TEMPLATES: [&str; 3] = ["customers", "orders", "shipping_info"];
/// The template of every other table.
pub(super) const GENERIC: &str = "any";

/// Path and text of each file of a language's project, the placeholders as they are.
pub(super) fn of(builder: &Builder, template: &str) -> Vec<(String, String)> {
    let mut files = BTreeMap::new();
    // The template's own files come over those that each project has.
    for part in ["project", template] {
        let folder = format!("{}/{part}/", builder.word());
        let own = TEMPLATE_FILES.iter().filter_map(|(path, text)| Some((path.strip_prefix(&folder)?, *text)));
        files.extend(own.map(|(path, text)| (path.to_owned(), text.to_owned())));
    }
    let Builder::Language(language) = *builder else { return files.into_iter().collect() };
    match language {
        Language::Rust => {
            let folder = if template == GENERIC { "passthrough" } else { template };
            let own = RUST_FILES.iter().filter_map(|(path, text)| Some((path.strip_prefix(folder)?.strip_prefix('/')?, *text)));
            files.extend(own.map(|(path, text)| (path.to_owned(), text.to_owned())));
            files.extend(RUST_SDK_FILES.iter().map(|(path, text)| (format!("streamsync/sdk/{path}"), (*text).to_owned())));
        }
        Language::Go => files.extend(sdk(language).map(|(path, text)| (format!("streamsync/{path}"), text.to_owned()))),
        Language::Js | Language::Python | Language::C => files.extend(sdk(language).map(|(path, text)| (path.to_owned(), text.to_owned()))),
    }
    files.into_iter().collect()
}

fn sdk(language: Language) -> impl Iterator<Item = (&'static str, &'static str)> {
    SDK_FILES.iter().filter_map(move |(path, text)| Some((path.strip_prefix(language.word())?.strip_prefix('/')?, *text)))
}

/// Recorded events of a template's table, and what is expected of them.
pub(super) fn tests_of(template: &str) -> (&'static str, &'static str) {
    match template {
        "customers" => (
            include_str!("../../../../../transforms/templates/tests/customers.events.jsonl"),
            include_str!("../../../../../transforms/templates/tests/customers.expected.txt"),
        ),
        "shipping_info" => (
            include_str!("../../../../../transforms/templates/tests/shipping_info.events.jsonl"),
            include_str!("../../../../../transforms/templates/tests/shipping_info.expected.txt"),
        ),
        _ => (
            include_str!("../../../../../transforms/templates/tests/orders.events.jsonl"),
            include_str!("../../../../../transforms/templates/tests/orders.expected.txt"),
        ),
    }
}
