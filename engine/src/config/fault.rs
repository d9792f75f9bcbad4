//! What is wrong with a configuration, and what was read of it. Faults are collected, not thrown: the operator sees all of them at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// One mistake. Its texts never hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// `streamsync.toml:12`, or the name of the environment variable.
    pub place: String,
    /// The key's path: `routes.orders.transform.module`. Empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, message, remedy } = self;
        let colon = if key.is_empty() { "" } else { ": " };
        write!(f, "{place}: {key}{colon}{message}: {remedy}")
    }
}

/// Where a value was written.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of the file, counted from 1.
    Line(usize),
    /// The file as a whole.
    File,
    /// An environment variable.
    Variable(String),
}

/// A key and where its value was written: what a fault points at.
#[derive(Clone)]
pub(super) struct Spot {
    pub(super) origin: Origin,
    pub(super) key: String,
}

/// A setting as it is in force. What may be a secret is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key with names in it: `sinks.redis.write_timeout`.
    pub key: String,
    /// The key as the reference has it: `sinks.<name>.write_timeout`.
    pub pattern: String,
    /// The value in TOML; a secret is shown as `"***"`.
    pub value: String,
    /// Where it comes from: a line, a variable, or `default`.
    pub place: String,
    /// The default in TOML, or `required`, or `-` where leaving it away means something of its own.
    pub default: String,
}

/// Collects faults and entries while a configuration is read.
pub(super) struct Report {
    file: String,
    faults: RefCell<Vec<(Origin, ConfigFault)>>,
    entries: RefCell<Vec<Entry>>,
    patterns: RefCell<BTreeMap<String, String>>,
}

impl Report {
    /// `file` is the name that places show.
    pub(super) fn new(file: String) -> Self {
        Self { file, faults: RefCell::default(), entries: RefCell::default(), patterns: RefCell::default() }
    }

    pub(super) fn fault(&self, spot: &Spot, message: impl Into<String>, remedy: impl Into<String>) {
        let fault =
            ConfigFault { place: self.place(&spot.origin), key: spot.key.clone(), message: message.into(), remedy: remedy.into() };
        let mut faults = self.faults.borrow_mut();
        if !faults.iter().any(|(_, known)| *known == fault) {
            faults.push((spot.origin.clone(), fault));
        }
    }

    pub(super) fn place(&self, origin: &Origin) -> String {
        match origin {
            Origin::Line(line) => format!("{}:{line}", self.file),
            Origin::File => self.file.clone(),
            Origin::Variable(name) => name.clone(),
        }
    }

    /// Every key that is asked for is a key that exists: the reference is compared with these.
    pub(super) fn known(&self, pattern: &str, default: &str) {
        self.patterns.borrow_mut().insert(pattern.to_owned(), default.to_owned());
    }

    pub(super) fn entry(&self, entry: Entry) {
        self.entries.borrow_mut().push(entry);
    }

    /// The faults in the order of the file, those of the environment last; the entries in the order of reading; all keys that exist
    /// with their defaults.
    pub(super) fn finish(self) -> (Vec<ConfigFault>, Vec<Entry>, BTreeMap<String, String>) {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|(origin, fault)| match origin {
            Origin::File => (0, 0, String::new()),
            Origin::Line(line) => (1, *line, fault.key.clone()),
            Origin::Variable(name) => (2, 0, name.clone()),
        });
        (faults.into_iter().map(|(_, fault)| fault).collect(), self.entries.into_inner(), self.patterns.into_inner())
    }
}
