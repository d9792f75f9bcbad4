//! What a project says of itself, and what its author types next.

use super::super::project::{Builder, Language, Project};

/// Before the route.
pub(super) const ROUTE: &str = "# The route as it will stand in streamsync.toml; `streamsync transform test` runs the events through it.\n";

/// The file that the author changes.
pub(super) fn source(builder: &Builder) -> &str {
    match builder {
        Builder::Language(Language::Rust) => "src/lib.rs",
        Builder::Language(Language::Go) => "main.go",
        Builder::Language(Language::Js) => "transform.js",
        Builder::Language(Language::Python) => "transform.py",
        Builder::Language(Language::C) => "transform.c",
        Builder::Own(recipe) => recipe.built.file(),
    }
}

/// What it is written in, as a sentence has it.
pub(super) const fn language(builder: &Builder) -> &str {
    match builder {
        Builder::Language(language) => language.word(),
        Builder::Own(_) => "WebAssembly's text",
    }
}

/// What there is to know of the source, and what the build needs, once.
fn prepare(builder: &Builder) -> String {
    let install = match builder {
        Builder::Language(Language::Rust) => "rustup target add wasm32-unknown-unknown",
        Builder::Language(Language::Go) => "install Go 1.26 or newer, https://go.dev/dl",
        Builder::Language(Language::Js) => "npm install -g componentize-qjs@0.4.5",
        Builder::Language(Language::Python) => "pip install componentize-py==0.25.1",
        Builder::Language(Language::C) => "pip install ziglang==0.17.1",
        Builder::Own(_) => {
            return "It shows what a core module of any\n\
                    language exports: let `command` and `core` in `transform.toml` name your compiler and what it leaves. streamsync's page\n\
                    `docs/transforms/other.md` has the layouts.\n\nTo try it as it is:"
                .to_owned();
        }
    };
    format!("The SDK beside it says what can be read and written.\n\nOnce: `{install}`. Then:")
}

/// The README: ten lines.
pub(super) fn readme(project: &Project, table: &str) -> String {
    let Project { name, builder, .. } = project;
    format!(
        "# {name}\n\n\
         A transform of the rows of `{table}`, in {language}: `{source}`. {prepare}\n\n    \
         streamsync transform build     # {name}.wasm; a missing tool is named\n    \
         streamsync transform test      # tests/events.jsonl, compared with tests/expected.txt; --update keeps what was seen\n    \
         streamsync transform verify    # the same bytes in every run\n\n\
         `streamsync capture --config FILE --topic T --out tests/events.jsonl --overwrite` records events of your own; FILE is the worker's\n\
         configuration. `route.toml` goes into it, beside `{name}.wasm`; `streamsync transform preview` shows first what would change.\n",
        language = language(builder),
        source = source(builder),
        prepare = prepare(builder)
    )
}

/// The commands that follow.
pub(super) fn next(project: &Project) -> Vec<String> {
    let go = format!("cd {}", project.dir.display());
    vec![go, "streamsync transform build".to_owned(), "streamsync transform test".to_owned()]
}
