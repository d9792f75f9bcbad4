//! `streamsync transform new`: a project that already does something sensible.

mod embedded;
mod files;
mod readme;
mod sample;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use sample::events as sample_events;

use std::path::{Path, PathBuf};

use clap::Args;

use super::Stop;
use super::project::{Builder, CONTRACT, Project, check_name};
use super::subject::{WITH_SCHEMA, WITHOUT_SCHEMA, have_schema, read_events, route_text};
use crate::cli::say;
use crate::recording::{self, RecordedEvent};

/// The database of the tables that the templates know.
const DATABASE: &str = "ecommerce";

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct NewArguments {
    /// The transform's name: up to 40 of a-z, 0-9, `-` and `_`, a letter first.
    name: String,
    /// The language to write it in; `other` begins with a whole transform in WebAssembly's text, for your compiler's to replace.
    #[arg(long, value_parser = Builder::parser())]
    lang: Builder,
    /// The table whose rows it sees, as MySQL has it: orders, or shop.orders. Those of the example shop have a tailored transform.
    #[arg(long)]
    table: String,
    /// Where the project goes; a directory of the transform's name unless given. It must not be there yet, or be empty.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Recorded events of the table, as `streamsync capture` writes them: the project tests with these.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// The table, which a template may be for.
struct Choice {
    database: String,
    table: String,
    /// Whether the language has tailored transforms.
    tailored: bool,
}

impl Choice {
    fn of(table: &str, tailored: bool) -> Result<Self, Stop> {
        let (database, table) = table.split_once('.').unwrap_or((DATABASE, table));
        if database.is_empty() || table.is_empty() || format!("{database}{table}").chars().any(|c| c.is_control() || c == '"' || c == '\\')
        {
            return Err(Stop::usage(format!("{table:?} is no table: write orders, or shop.orders")));
        }
        Ok(Self { database: database.to_owned(), table: table.to_owned(), tailored })
    }

    /// The tailored ones read the columns that the example shop's tables have: those of a table of the same name elsewhere are others.
    fn template(&self) -> &'static str {
        let is_for = |template: &&str| self.tailored && *template == self.table && self.database == DATABASE;
        let tailored = files::TEMPLATES.into_iter().find(is_for);
        tailored.unwrap_or(files::GENERIC)
    }

    fn is_generic(&self) -> bool {
        self.template() == files::GENERIC
    }
}

/// Writes the project, and says what to type next.
pub(super) fn new(arguments: &NewArguments) -> Result<(), Stop> {
    let NewArguments { name, lang, .. } = arguments;
    check_name(name).map_err(Stop::Usage)?;
    let mut choice = Choice::of(&arguments.table, matches!(lang, Builder::Language(_)))?;
    let events = match &arguments.events {
        Some(path) => Some(recorded(path, &mut choice, arguments.table.contains('.'))?),
        None => None,
    };
    let dir = arguments.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let project = Project { dir: dir.clone(), name: name.clone(), builder: lang.clone() };
    let mut written = files::of(lang, choice.template());
    written.retain(|(_, text)| !text.is_empty());
    let fill = |text: &str| {
        let text = text.replace("{{name}}", name).replace("{{ident}}", &name.replace('-', "_"));
        text.replace("{{table}}", &choice.table).replace("{{database}}", &choice.database)
    };
    let mut project_files: Vec<(String, String)> = written.iter().map(|(path, text)| (fill(path), fill(text))).collect();
    let quoted = |text: String| serde_json::Value::from(text).to_string();
    let table = format!("{}.{}", choice.database, choice.table);
    let topic =
        events.as_ref().and_then(|events| events.first()).map_or_else(|| format!("{DATABASE}.{table}"), |event| event.topic.clone());
    project_files.push(("transform.toml".into(), Project::manifest(name, lang)));
    let format = if events.as_deref().is_none_or(have_schema) { WITH_SCHEMA } else { WITHOUT_SCHEMA };
    let route = route_text(name, &topic, &quoted(table), &quoted(format!("{name}.wasm")), format);
    project_files.push(("route.toml".into(), format!("{}{route}", readme::ROUTE)));
    project_files.push(("README.md".into(), readme::readme(&project, &choice.table)));
    project_files.push(("wit/transform.wit".into(), CONTRACT.into()));
    project_files.extend(tests_of(&choice, events.as_deref()));
    create(&dir)?;
    for (path, text) in &project_files {
        put(&dir.join(path), text)?;
    }
    let language = readme::language(lang);
    say(&format!("{} is a transform of {} in {language}. Next:", dir.display(), choice.table));
    for line in readme::next(&project) {
        say(&format!("    {line}"));
    }
    Ok(())
}

/// The events of a file. They say which table they are of; one that was named without its database may be of any.
fn recorded(path: &Path, choice: &mut Choice, with_database: bool) -> Result<Vec<RecordedEvent>, Stop> {
    let events = read_events(path)?;
    if let Some((database, table)) = recording::table_of(&events) {
        let same = table == choice.table && (!with_database || database == choice.database);
        if !same {
            return Err(Stop::usage(format!(
                "{} has events of {database}.{table}, not of {}: name that table",
                path.display(),
                choice.table
            )));
        }
        choice.database = database;
    }
    Ok(events)
}

/// Test events, and what is expected of them: recorded ones of the template's table, given ones, or invented ones.
fn tests_of(choice: &Choice, events: Option<&[RecordedEvent]>) -> Vec<(String, String)> {
    let lines = |events: &[RecordedEvent]| events.iter().map(|event| event.line() + "\n").collect::<String>();
    let (events, expected) = match events {
        // What becomes of events that nobody has seen is not known; `transform test --update` writes it.
        Some(events) => (lines(events), None),
        None if choice.is_generic() => {
            let events = sample::events(&choice.database, &choice.table);
            (lines(&events), Some(sample::EXPECTED.to_owned()))
        }
        None => {
            let (events, expected) = files::tests_of(choice.template());
            (events.to_owned(), Some(expected.to_owned()))
        }
    };
    let expected = expected.map(|text| ("tests/expected.txt".to_owned(), text));
    std::iter::once(("tests/events.jsonl".to_owned(), events)).chain(expected).collect()
}

fn create(dir: &Path) -> Result<(), Stop> {
    if std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some()) {
        return Err(Stop::usage(format!("{} is there and not empty: name another directory with --dir", dir.display())));
    }
    std::fs::create_dir_all(dir).map_err(|error| Stop::usage(format!("{} can't be made: {error}", dir.display())))
}

fn put(path: &Path, text: &str) -> Result<(), Stop> {
    let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    parent.and_then(|()| std::fs::write(path, text)).map_err(|error| Stop::no(format!("{} can't be written: {error}", path.display())))
}
