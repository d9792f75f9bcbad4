//! What `test`, `verify` and `inspect` look at: a module, the route that it stands in, and recorded events.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Stop;
use super::project::Project;
use crate::config::{self, RouteSettings, Settings};
use crate::recording::{self, RecordedEvent};

/// A module with all that it takes to run it.
pub(super) struct Subject {
    pub(super) route: Arc<RouteSettings>,
    pub(super) settings: Settings,
    pub(super) events: Vec<RecordedEvent>,
    /// Where the expected outcomes are, or go.
    pub(super) expected: PathBuf,
}

/// What the command line says of it.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct SubjectArguments {
    /// A project's directory, or a module.
    #[arg(value_name = "DIR|MODULE", default_value = ".")]
    subject: PathBuf,
    /// Recorded events, as `streamsync capture` writes them. A project has its own.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// The route: a file with one [[routes]], as streamsync.toml has it. A project has its own; else targets redis and mongodb and no config.
    #[arg(long, value_name = "FILE")]
    route: Option<PathBuf>,
}

/// A module and, where it lies in one, its project.
pub(super) fn module_of(subject: &Path) -> Result<(PathBuf, Option<Project>), Stop> {
    if subject.is_dir() {
        let project = Project::open(subject)?;
        let module = project.module();
        if !module.is_file() {
            let dir = if subject == Path::new(".") { String::new() } else { format!(" {}", subject.display()) };
            return Err(Stop::usage(format!("{} is not built yet: streamsync transform build{dir}", module.display())));
        }
        return Ok((module, Some(project)));
    }
    if !subject.is_file() {
        return Err(Stop::usage(format!("{} is neither a project's directory nor a module", subject.display())));
    }
    let dir = subject.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((subject.to_owned(), Project::find(dir)?))
}

impl SubjectArguments {
    /// Reads all of it.
    pub(super) fn read(&self, expected: Option<&Path>) -> Result<Subject, Stop> {
        let (module, project) = module_of(&self.subject)?;
        let path = match (&self.events, &project) {
            (Some(path), _) => path.clone(),
            (None, Some(project)) => project.events(),
            (None, None) => {
                return Err(Stop::usage(
                    "name recorded events: --events FILE; `streamsync capture --route NAME --out FILE` writes them from a live topic",
                ));
            }
        };
        let events = read_events(&path)?;
        let route = self.route.clone().or_else(|| project.as_ref().map(Project::route));
        let (route, settings) = read_route(&module, route.as_deref(), &events)?;
        let expected = match (expected, &self.events, &project) {
            (Some(path), _, _) => path.to_owned(),
            (None, None, Some(project)) => project.expected(),
            (None, _, _) => path.with_extension("expected.txt"),
        };
        Ok(Subject { route, settings, events, expected })
    }

    /// Whether there are events to be had.
    pub(super) fn has_events(&self) -> Result<bool, Stop> {
        let (_, project) = module_of(&self.subject)?;
        Ok(self.events.is_some() || project.is_some_and(|project| project.events().is_file()))
    }

    pub(super) fn module(&self) -> Result<PathBuf, Stop> {
        module_of(&self.subject).map(|(module, _)| module)
    }
}

/// A file of recorded events; at least one.
pub(super) fn read_events(path: &Path) -> Result<Vec<RecordedEvent>, Stop> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Stop::usage(format!("{} can't be read: {error}; `streamsync capture --route NAME --out FILE` writes such a file", path.display()))
    })?;
    let events = recording::parse(&text).map_err(|error| Stop::usage(format!("{}: {error}", path.display())))?;
    if events.is_empty() {
        return Err(Stop::usage(format!("{} has no event", path.display())));
    }
    Ok(events)
}

/// The sections that a route needs around it. Nothing of them is connected to.
const SURROUNDINGS: [(&str, &str); 3] = [
    ("kafka", "[kafka]\nbrokers = \"localhost:9092\"\ngroup = \"transform\"\n"),
    ("sinks.redis", "[sinks.redis]\nkind = \"redis\"\nurl = \"redis://localhost\"\n"),
    ("sinks.mongodb", "[sinks.mongodb]\nkind = \"mongodb\"\nuri = \"mongodb://localhost\"\ndatabase = \"transform\"\n"),
];

/// The route of a file, or one that fits the events; and the settings that it stands in.
pub(super) fn read_route(module: &Path, file: Option<&Path>, events: &[RecordedEvent]) -> Result<(Arc<RouteSettings>, Settings), Stop> {
    let (text, name, directory) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| Stop::usage(format!("{} can't be read: {error}", path.display())))?;
            let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
            (text, path.display().to_string(), directory)
        }
        None => (made_route(module, events)?, "the route".to_owned(), PathBuf::new()),
    };
    let text = surrounded(&text);
    // Settings of a worker that are in the environment too are not the route's.
    let environment = super::super::run::environment().filter(|(name, _)| !name.starts_with("STREAMSYNC_"));
    let mut settings = config::load_text(&text, &name, &directory, environment)
        .map_err(|faults| Stop::usage(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let [route] = settings.routes.as_slice() else {
        return Err(Stop::usage(format!("{name} has {} routes: leave the one that the module is for", settings.routes.len())));
    };
    let mut route = RouteSettings::clone(route);
    if route.transform.module.file() != Some(module) {
        // Another module than the route's is being looked at: the route's pin is not for it, and it need not be signed yet, for nothing is
        // written that it says.
        route.transform.module = module.into();
        route.transform.sha256 = None;
        route.transform.signature_key = None;
    }
    settings.transforms.max_instances = 2;
    Ok((Arc::new(route), settings))
}

/// What is there already stays: a whole streamsync.toml of one route will do.
fn surrounded(text: &str) -> String {
    let there = toml::from_str::<toml::Table>(text).unwrap_or_default();
    let has = |path: &str| {
        let mut table = Some(&there);
        let mut found = false;
        for part in path.split('.') {
            let value = table.and_then(|table| table.get(part));
            found = value.is_some();
            table = value.and_then(toml::Value::as_table);
        }
        found
    };
    let missing = SURROUNDINGS.iter().filter(|(path, _)| !has(path)).map(|(_, section)| *section);
    std::iter::once(text).chain(missing).collect::<Vec<_>>().join("\n")
}

fn made_route(module: &Path, events: &[RecordedEvent]) -> Result<String, Stop> {
    let Some((database, table)) = recording::table_of(events) else {
        return Err(Stop::usage(
            "the events name no table in a source block: give the route they are of, --route FILE with one [[routes]]",
        ));
    };
    if !have_schema(events) {
        return Err(Stop::usage(
            "the events have no schema, so that the columns' types must be declared: give the route they are of, --route FILE with one [[routes]], \
             its format = \"json\" and its [routes.columns]",
        ));
    }
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    Ok(route_text(
        "transform",
        "transform",
        &quoted(&format!("{database}.{table}")),
        &quoted(&std::path::absolute(module).unwrap_or(module.into()).display().to_string()),
        WITH_SCHEMA,
    ))
}

/// Whether the columns' types are in the events.
pub(super) fn have_schema(events: &[RecordedEvent]) -> bool {
    events.iter().filter_map(|event| event.value.as_deref()).any(|value| {
        serde_json::from_slice::<serde_json::Value>(value)
            .is_ok_and(|value| value.get("schema").is_some() && value.get("payload").is_some())
    })
}

/// What a route says of events that have their schema with them,
pub(super) const WITH_SCHEMA: &str = "format = \"json-with-schema\"\n";
/// and of others: the author must say the rest, and the configuration is refused until then.
pub(super) const WITHOUT_SCHEMA: &str = "format = \"json\"\n\
    # The events have no schema: declare each column of the table, with its type as SHOW CREATE TABLE has it.\n\
    # [routes.columns]\n# id = \"bigint not null\"\n";

/// A route with both targets; table and module are in quotes already.
pub(super) fn route_text(name: &str, topic: &str, table: &str, module: &str, format: &str) -> String {
    format!(
        "[[routes]]\nname = \"{name}\"\ntopic = \"{topic}\"\ntable = {table}\n{format}[routes.transform]\nmodule = {module}\n\
         [routes.targets.redis]\nsink = \"redis\"\nprefix = \"{name}\"\n[routes.targets.mongodb]\nsink = \"mongodb\"\ncollection = \"{name}\"\n"
    )
}
