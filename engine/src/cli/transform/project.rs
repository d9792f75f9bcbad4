//! A transform's project on disk, as `streamsync transform new` writes it.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Deserialize;

use super::Stop;

/// What a project says of itself.
const MANIFEST: &str = "transform.toml";

/// The contract, from which a component's types are taken.
pub(super) const CONTRACT: &str = include_str!("../../../../wit/transform.wit");

/// A language with an SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Rust,
    Go,
    Js,
    Python,
    C,
}

/// Stands for every other language, on the command line and in the manifest.
const OTHER: &str = "other";

/// The core module of a new project of any other language, which its author's compiler will replace.
const BEGINNING: &str = "transform.wat";

impl Language {
    /// As it is written on the command line and in the manifest.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Js => "js",
            Self::Python => "python",
            Self::C => "c",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    language: String,
    command: Option<Vec<String>>,
    core: Option<String>,
    component: Option<String>,
}

/// What builds a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Builder {
    /// The tool knows how.
    Language(Language),
    /// The author says how.
    Own(Recipe),
}

/// How a transform of any other language is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// A program and its arguments, run in the project's directory; empty where the file is there already.
    pub(super) command: Vec<String>,
    pub(super) built: Built,
}

/// The file that is there afterwards, within the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Built {
    /// A core module with the contract's functions in the canonical ABI.
    Core(String),
    Component(String),
}

/// A project.
#[derive(Clone, Debug)]
pub(super) struct Project {
    pub(super) dir: PathBuf,
    pub(super) name: String,
    pub(super) builder: Builder,
}

impl Built {
    pub(super) fn file(&self) -> &str {
        match self {
            Self::Core(file) | Self::Component(file) => file,
        }
    }
}

impl Builder {
    /// Reads `--lang`.
    pub(super) fn parser() -> impl TypedValueParser<Value = Self> {
        let words = Language::value_variants().iter().map(|language| language.word()).chain([OTHER]);
        PossibleValuesParser::new(words).map(|word| Self::of_new(&word))
    }

    /// What builds a new project.
    pub(super) fn of_new(word: &str) -> Self {
        let language = Language::value_variants().iter().find(|language| language.word() == word);
        language.map_or_else(
            || Self::Own(Recipe { command: Vec::new(), built: Built::Core(BEGINNING.to_owned()) }),
            |language| Self::Language(*language),
        )
    }

    /// As it is written on the command line and in the manifest.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Language(language) => language.word(),
            Self::Own(_) => OTHER,
        }
    }
}

impl Manifest {
    fn builder(self) -> Result<Builder, String> {
        if self.language == OTHER {
            return self.recipe().map(Builder::Own);
        }
        let Some(language) = Language::value_variants().iter().find(|language| language.word() == self.language) else {
            let words: Vec<&str> = Language::value_variants().iter().map(|language| language.word()).collect();
            return Err(format!(
                "language = {:?} is none of {}: write language = \"{OTHER}\", and how it is built",
                self.language,
                words.join(", ")
            ));
        };
        if self.command.is_some() || self.core.is_some() || self.component.is_some() {
            return Err(format!(
                "`command`, `core` and `component` are for language = \"{OTHER}\": how {} is built is known",
                language.word()
            ));
        }
        Ok(Builder::Language(*language))
    }

    fn recipe(self) -> Result<Recipe, String> {
        let built = match (self.core, self.component) {
            (Some(core), None) => Built::Core(core),
            (None, Some(component)) => Built::Component(component),
            (Some(_), Some(_)) => return Err("it has both `core` and `component`: leave the one that is built".into()),
            (None, None) => {
                return Err(format!(
                    "language = \"{OTHER}\" needs core = \"FILE.wasm\", a core module, or component = \"FILE.wasm\"; and command = [\"…\"], which \
                     makes it"
                ));
            }
        };
        if self.command.as_ref().is_some_and(|command| command.first().is_none_or(String::is_empty)) {
            return Err("`command` is empty: name a program and its arguments, as in [\"sh\", \"build.sh\"], or leave it out".into());
        }
        Ok(Recipe { command: self.command.unwrap_or_default(), built })
    }
}

impl Project {
    /// The manifest's text, of a new project.
    pub(super) fn manifest(name: &str, builder: &Builder) -> String {
        let head = format!("# What `streamsync transform` knows of this project.\nname = \"{name}\"\nlanguage = \"{}\"\n", builder.word());
        match builder {
            Builder::Language(_) => head,
            Builder::Own(_) => format!(
                "{head}# Your compiler, run in this directory, and the core module that it leaves. This one needs none: it is WebAssembly's text.\n\
                 # command = [\"sh\", \"build.sh\"]\ncore = \"{BEGINNING}\"\n"
            ),
        }
    }

    /// The project in a directory; `None` where there is none.
    pub(super) fn find(dir: &Path) -> Result<Option<Self>, Stop> {
        let path = dir.join(MANIFEST);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Stop::usage(format!("{} can't be read: {error}", path.display()))),
        };
        let manifest: Manifest = toml::from_str(&text)
            .map_err(|error| Stop::usage(format!("{}: {error}it needs name = \"…\" and language = \"go\"", path.display())))?;
        check_name(&manifest.name).map_err(|message| Stop::usage(format!("{}: {message}", path.display())))?;
        let name = manifest.name.clone();
        let builder = manifest.builder().map_err(|message| Stop::usage(format!("{}: {message}", path.display())))?;
        Ok(Some(Self { dir: dir.to_owned(), name, builder }))
    }

    /// As [`Self::find`]; there must be one.
    pub(super) fn open(dir: &Path) -> Result<Self, Stop> {
        Self::find(dir)?.ok_or_else(|| {
            Stop::usage(format!(
                "{} is no transform's project, it has no {MANIFEST}: go to one, name one, or make one with `streamsync transform new NAME --lang \
                 rust --table orders`",
                dir.display()
            ))
        })
    }

    /// What `build` writes.
    pub(super) fn module(&self) -> PathBuf {
        self.at(&format!("{}.wasm", self.name))
    }

    pub(super) fn route(&self) -> PathBuf {
        self.at("route.toml")
    }

    pub(super) fn events(&self) -> PathBuf {
        self.at("tests/events.jsonl")
    }

    pub(super) fn expected(&self) -> PathBuf {
        self.at("tests/expected.txt")
    }

    pub(super) fn contract(&self) -> PathBuf {
        self.at("wit/transform.wit")
    }

    /// As a person writes it: without `./` in front.
    fn at(&self, file: &str) -> PathBuf {
        if self.dir == Path::new(".") { PathBuf::from(file) } else { self.dir.join(file) }
    }
}

/// A name becomes a crate, a Go module, a file: what all of them take.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 40 && name.chars().all(legal) {
        return Ok(());
    }
    Err(format!("{name:?} can't be a transform's name: write up to 40 of a-z, 0-9, `-` and `_`, a letter first"))
}
