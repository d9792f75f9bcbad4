//! Guests of released contracts still load, and answer as they did. docs/decisions/0016-contract-policy.md says why.
//!
//! `UPDATE_EXPECTED=1` writes what is expected anew: for a version that is being released, never for one that is.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use streamsync::config;
use streamsync::lane::Rehearsal;
use streamsync::outcome;
use streamsync::recording;
use streamsync::transform::{CONTRACT_VERSIONS, Guest, TransformHost};

fn releases() -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let is_release = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("contract-"));
    std::fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()).filter(is_release).collect()
}

/// The table that a guest is for: a guest of another language is called `orders-c`.
fn table(name: &str) -> &str {
    name.split('-').next().unwrap()
}

fn check(dir: &Path, module: &Path) {
    let name = module.file_stem().unwrap().to_str().unwrap();
    let table = table(name);
    let text = format!(
        "[kafka]\nbrokers = \"localhost:9092\"\ngroup = \"g\"\n[sinks.redis]\nkind = \"redis\"\nurl = \"redis://localhost\"\n\
         [sinks.mongodb]\nkind = \"mongodb\"\nuri = \"mongodb://localhost\"\ndatabase = \"d\"\n\
         [[routes]]\nname = \"{table}\"\ntopic = \"t\"\ntable = \"ecommerce.{table}\"\nformat = \"json-with-schema\"\n\
         [routes.transform]\nmodule = \"{name}.wasm\"\n\
         [routes.targets.redis]\nsink = \"redis\"\nprefix = \"{table}\"\n[routes.targets.mongodb]\nsink = \"mongodb\"\ncollection = \"{table}\"\n"
    );
    let mut settings = config::load_text(&text, "route", dir, std::iter::empty()).unwrap();
    settings.transforms.max_instances = 2;
    let [route] = settings.routes.as_slice() else { unreachable!("one route") };
    let host = TransformHost::new(&settings.transforms).unwrap();
    let module = host.load(&route.transform).unwrap();
    let version = dir.file_name().unwrap().to_str().unwrap().trim_start_matches("contract-");
    assert_eq!(module.contract, version, "{name}");
    let guest = Guest::new(module, route.clone(), &settings.sinks).unwrap();
    let mut rehearsal = Rehearsal::new(route, guest);
    let events = recording::parse(&std::fs::read_to_string(dir.join(format!("{table}.events.jsonl"))).unwrap()).unwrap();
    let batches = recording::batches(&events, usize::MAX).unwrap();
    let outcomes: Vec<_> = batches.into_iter().flat_map(|batch| rehearsal.batch(batch).outcomes).collect();
    let path = dir.join(format!("{table}.expected.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, outcome::write(&outcomes)).unwrap();
    }
    let expected = outcome::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(outcome::differences(&expected, &outcomes, false), [], "{name}");
}

#[test]
fn guests_of_each_release_answer_as_they_did() {
    let releases = releases();
    for dir in &releases {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let modules: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "wasm")).collect();
        assert!(modules.len() >= 3, "{}: {modules:?}", dir.display());
        modules.iter().for_each(|module| check(dir, module));
    }
    assert_eq!(releases.len(), CONTRACT_VERSIONS.len(), "each version that the engine runs has its guests: {releases:?}");
}
