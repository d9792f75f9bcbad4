//! What a configuration that was read anew changes.

use std::time::Duration;

use super::settings::{RouteSettings, Settings};

impl Settings {
    /// How long partitions that go may really take to settle: a member that does not poll meanwhile must not be thrown out.
    pub fn drain_limit(&self) -> Duration {
        self.drain_timeout.min(self.kafka.max_poll_interval / 2)
    }

    /// The sections in which another configuration differs and that are read at a start only: all but the routes' transforms.
    pub fn needs_restart_for(&self, other: &Self) -> Vec<String> {
        let sections = [
            ("kafka", self.kafka != other.kafka),
            ("batch", self.batch != other.batch),
            ("retry", self.retry != other.retry),
            ("drain_timeout", self.drain_timeout != other.drain_timeout),
            ("loss_check_interval", self.loss_check_interval != other.loss_check_interval),
            ("http", self.http != other.http),
            ("dead_letters", self.dead_letters != other.dead_letters),
            ("transforms", self.transforms != other.transforms),
            ("sinks", self.sinks != other.sinks),
            ("passed_over_topics", self.passed_over_topics != other.passed_over_topics),
        ];
        let mut changed: Vec<String> = sections.iter().filter(|(_, differs)| *differs).map(|(name, _)| (*name).to_owned()).collect();
        for route in &self.routes {
            let same = |new: &RouteSettings| RouteSettings { transform: route.transform.clone(), ..new.clone() } == **route;
            match other.routes.iter().find(|new| new.name == route.name) {
                Some(new) if same(new) => {}
                Some(_) => changed.push(format!("routes.{}", route.name)),
                None => changed.push(format!("routes.{} (gone)", route.name)),
            }
        }
        let added = other.routes.iter().filter(|new| !self.routes.iter().any(|route| route.name == new.name));
        changed.extend(added.map(|new| format!("routes.{} (new)", new.name)));
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(text: &str) -> Settings {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        Settings::parse(text, directory).unwrap_or_else(|faults| unreachable!("{faults:#?}"))
    }

    const BEFORE: &str = r#"
[kafka]
brokers = "localhost:9092"
[sinks.s]
kind = "redis"
url = "redis://:one@localhost"
[[routes]]
name = "a"
topic = "a"
table = "d.a"
format = "json-with-schema"
[routes.transform]
module = "Cargo.toml"
[routes.targets.t]
sink = "s"
prefix = "a"
"#;

    #[test]
    fn all_but_transforms_needs_a_restart() {
        let cases = [
            ("module = \"Cargo.toml\"", "module = \"src/lib.rs\"\nconfig = { x = 1 }\ncall_timeout = \"1s\"", ""),
            ("[kafka]", "[transforms]\nmax_memory = \"8MiB\"\n[kafka]", ""),
            ("[kafka]", "[transforms]\nmax_instances = 3\n[kafka]", "transforms"),
            (":one@", ":two@", "sinks"),
            ("prefix = \"a\"", "prefix = \"b\"", "routes.a"),
            ("name = \"a\"", "name = \"b\"", "routes.a (gone), routes.b (new)"),
            ("[kafka]", "[batch]\nmax_records = 5\n[http]\nlisten = \"127.0.0.1:1\"\n[kafka]", "batch, http"),
        ];
        let before = settings(BEFORE);
        for (from, to, expected) in cases {
            let after = settings(&BEFORE.replacen(from, to, 1));
            assert_eq!(before.needs_restart_for(&after).join(", "), expected, "{to}");
        }
    }
}
