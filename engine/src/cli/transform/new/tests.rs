#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use clap::ValueEnum as _;

use super::super::project::Language;
use super::embedded::{RUST_FILES, RUST_SDK_FILES, SDK_FILES, TEMPLATE_FILES};
use super::*;
use crate::cli::transform::subject::read_route;
use crate::outcome;

fn list(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.file_name().map(|name| name.to_string_lossy().into_owned()).as_deref() {
            // What builds leave behind.
            Some("target" | "node_modules" | "__pycache__" | "build" | "Cargo.lock") => {}
            _ if path.is_dir() => list(&path, into),
            _ => into.push(path),
        }
    }
}

/// What lies in a folder is what is embedded of it.
fn check(folder: &str, embedded: &[(&str, &str)], left_out: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../transforms").join(folder);
    let mut files = Vec::new();
    list(&root, &mut files);
    let names = files.iter().map(|path| path.strip_prefix(&root).expect("inside").to_string_lossy().into_owned());
    let there: BTreeSet<String> = names.filter(|name| !left_out.iter().any(|begin| name.starts_with(begin))).collect();
    let known: BTreeSet<String> = embedded.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known, there, "embedded.rs and transforms/{folder} differ");
    for (name, text) in embedded {
        assert_eq!(std::fs::read_to_string(root.join(name)).expect("a file"), *text);
    }
}

#[test]
fn what_is_embedded_is_what_lies_in_the_tree() {
    check("templates", TEMPLATE_FILES, &["README.md", "tests/"]);
    check("sdks", SDK_FILES, &["README.md", "tests/"]);
    check("sdk", RUST_SDK_FILES, &[]);
    for name in ["customers", "orders", "passthrough", "shipping_info"] {
        let folder = format!("{name}/");
        let own: Vec<(&str, &str)> =
            RUST_FILES.iter().filter_map(|(path, text)| Some((path.strip_prefix(folder.as_str())?, *text))).collect();
        check(name, &own, &["Cargo.toml"]);
    }
}

fn arguments(lang: &str, table: &str, dir: &Path) -> NewArguments {
    NewArguments { name: "my-transform".into(), lang: Builder::of_new(lang), table: table.into(), dir: Some(dir.to_owned()), events: None }
}

#[test]
fn a_project_of_each_language_and_table_is_whole() {
    for lang in Language::value_variants().iter().map(|language| language.word()).chain(["other"]) {
        for table in ["customers", "orders", "shipping_info", "shop.carts"] {
            let dir = tempfile::tempdir().expect("a directory");
            new(&arguments(lang, table, dir.path())).expect("written");
            let project = Project::open(dir.path()).expect("a project");
            assert_eq!((project.name.as_str(), &project.builder), ("my-transform", &Builder::of_new(lang)));
            assert_eq!(project.builder.word(), lang);
            let mut files = Vec::new();
            list(dir.path(), &mut files);
            for file in &files {
                let text = std::fs::read_to_string(file).expect("text");
                assert!(
                    !["{{name}}", "{{ident}}", "{{table}}", "{{database}}"].iter().any(|left| text.contains(left)),
                    "{}: a placeholder is left",
                    file.display()
                );
            }
            assert!(files.iter().any(|file| file.ends_with(readme::source(&project.builder))), "{lang} {table}: {files:?}");
            let readme = std::fs::read_to_string(dir.path().join("README.md")).expect("there");
            assert!(readme.lines().count() <= 16 && readme.contains("streamsync transform test"), "{readme}");
            let events = read_events(&project.events()).expect("events");
            let expected = outcome::parse(&std::fs::read_to_string(project.expected()).expect("there")).expect("outcomes");
            assert_eq!(events.len(), expected.len(), "{table}");
            // The route is as good as its module, which only a build makes.
            std::fs::write(project.module(), "").expect("written");
            let (route, _) = read_route(&project.module(), Some(&project.route()), &events).expect("a route");
            assert_eq!(route.table, table.trim_start_matches("shop."));
        }
    }
}

/// No Go build succeeds in a module that is called as a package of the standard library is: "log", "vendor".
#[test]
fn a_go_module_is_not_called_as_the_transform() {
    for table in ["customers", "orders", "shipping_info", "shop.carts"] {
        let dir = tempfile::tempdir().expect("a directory");
        new(&NewArguments { name: "log".into(), ..arguments("go", table, dir.path()) }).expect("written");
        let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("there");
        assert!(text("go.mod").starts_with("module transform.log\n"), "{}", text("go.mod"));
        assert!(text("main.go").contains("\"transform.log/streamsync\""), "{}", text("main.go"));
    }
}

#[test]
fn recorded_events_are_the_project_s() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("events.jsonl");
    let events = sample::events("shop", "carts");
    std::fs::write(&path, events.iter().map(|event| event.line() + "\n").collect::<String>()).expect("written");
    let with = |table: &str, to: &str| NewArguments { events: Some(path.clone()), ..arguments("c", table, &dir.path().join(to)) };
    new(&with("carts", "a")).expect("written");
    let project = Project::open(&dir.path().join("a")).expect("a project");
    assert_eq!(read_events(&project.events()).expect("events"), events);
    assert!(!project.expected().exists(), "nobody has seen what becomes of them");
    let route = std::fs::read_to_string(project.route()).expect("there");
    assert!(route.contains("table = \"shop.carts\"") && route.contains("topic = \"ecommerce.shop.carts\""), "{route}");
    // Without their schemas, which the connector may leave out.
    let plain = |event: &RecordedEvent| {
        let value: serde_json::Value = serde_json::from_slice(event.value.as_ref().expect("a value")).expect("JSON");
        RecordedEvent { value: value.get("payload").map(|payload| payload.to_string().into_bytes()), ..event.clone() }
    };
    std::fs::write(&path, events.iter().map(|event| plain(event).line() + "\n").collect::<String>()).expect("written");
    new(&with("carts", "plain")).expect("written");
    let project = Project::open(&dir.path().join("plain")).expect("a project");
    std::fs::write(project.module(), "").expect("written");
    let read = |project: &Project| read_route(&project.module(), Some(&project.route()), &events);
    let error = read(&project).expect_err("the types are not known");
    assert!(error.message().contains("add [routes.columns] with name"), "{}", error.message());
    let route = std::fs::read_to_string(project.route()).expect("there");
    std::fs::write(project.route(), route.replace("# [routes", "[routes").replace("# id", "id")).expect("written");
    assert!(matches!(read(&project).expect("a route").0.format, crate::config::Format::Json { .. }));
    for (table, expected) in
        [("orders", "has events of shop.carts, not of orders"), ("other.carts", "has events of shop.carts, not of carts")]
    {
        let error = new(&with(table, "b")).expect_err("another table");
        assert!(error.message().contains(expected), "{expected}: {}", error.message());
    }
}

/// A table of the example shop's name may be anybody's: its events say which database it is of.
#[test]
fn another_database_s_orders_are_not_the_example_s() {
    let dir = tempfile::tempdir().expect("a directory");
    let written = |database: &str| {
        let path = dir.path().join(format!("{database}.jsonl"));
        let events = sample::events(database, "orders");
        std::fs::write(&path, events.iter().map(|event| event.line() + "\n").collect::<String>()).expect("written");
        let project = dir.path().join(database);
        new(&NewArguments { events: Some(path), ..arguments("go", "orders", &project) }).expect("written");
        std::fs::read_to_string(project.join("main.go")).expect("there")
    };
    assert!(written("ecommerce").contains("total_minor"), "the tailored transform");
    let generic = written("shop");
    assert!(!generic.contains("total_minor") && generic.contains("table.Columns"), "{generic}");
}

#[test]
fn what_can_t_be_made_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = arguments("go", "orders", &dir.path().join("a"));
    new(&good).expect("written");
    let cases = [
        (good.clone(), "is there and not empty"),
        (NewArguments { name: "My".into(), ..good.clone() }, "can't be a transform's name"),
        (NewArguments { name: "../a".into(), ..good.clone() }, "can't be a transform's name"),
        (NewArguments { table: ".orders".into(), ..good.clone() }, "is no table"),
        (NewArguments { table: "a.b\"c".into(), ..good.clone() }, "is no table"),
        (NewArguments { events: Some("/nowhere".into()), ..good }, "streamsync capture"),
    ];
    for (arguments, expected) in cases {
        let error = new(&arguments).expect_err(expected);
        assert!(error.message().contains(expected), "{expected}: {}", error.message());
    }
}
