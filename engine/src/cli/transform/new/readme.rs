//! What a project says of itself, and what its author types next.

use super::super::project::{Language, Project};

/// Before the route.
pub(super) const ROUTE: &str = "# The route as it will stand in streamsync.toml; `streamsync transform test` runs the events through it.\n";

/// The file that the author changes.
pub(super) const fn source(language: Language) -> &'static str {
    match language {
        Language::Rust => "src/lib.rs",
        Language::Go => "main.go",
        Language::Js => "transform.js",
        Language::Python => "transform.py",
        Language::C => "transform.c",
    }
}

/// What the build needs, once.
const fn prepare(language: Language) -> &'static str {
    match language {
        Language::Rust => "rustup target add wasm32-unknown-unknown",
        Language::Go => "install Go 1.26 or newer, https://go.dev/dl",
        Language::Js => "npm install -g componentize-qjs@0.4.5",
        Language::Python => "pip install componentize-py==0.25.1",
        Language::C => "pip install ziglang==0.17.1",
    }
}

/// The README: ten lines.
pub(super) fn readme(project: &Project, table: &str, language: Language) -> String {
    let Project { name, .. } = project;
    let once = prepare(language);
    format!(
        "# {name}\n\n\
         A transform of the rows of `{table}`, in {word}: `{source}`. The SDK beside it says what can be read and written.\n\n\
         Once: `{once}`. Then:\n\n    \
         streamsync transform build     # {name}.wasm; a missing tool is named\n    \
         streamsync transform test      # tests/events.jsonl, compared with tests/expected.txt; --update keeps what was seen\n    \
         streamsync transform verify    # the same bytes in every run\n\n\
         `streamsync capture --config FILE --topic T --out tests/events.jsonl --overwrite` records events of your own; FILE is the worker's\n\
         configuration. `route.toml` goes into it, beside `{name}.wasm`; `streamsync transform preview` shows first what would change.\n",
        word = language.word(),
        source = source(language)
    )
}

/// The commands that follow.
pub(super) fn next(project: &Project) -> Vec<String> {
    let go = format!("cd {}", project.dir.display());
    vec![go, "streamsync transform build".to_owned(), "streamsync transform test".to_owned()]
}
