//! What every history has alike: the routes, the sinks, the module; and what differs from history to history.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use streamsync::config::{OnTruncate, Settings, SinkKind};
use streamsync::transform::{Module, TransformHost};

use crate::component::component;
use crate::dice::Dice;
use crate::world::World;

/// One topic a table. Table `a` has the key `id`, table `b` the key `id, line`.
pub const TABLES: [&str; 2] = ["a", "b"];

pub const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

const CONFIGURATION: &str = r#"
drain_timeout = "5s"
[kafka]
brokers = "127.0.0.1:1"
group = "g"
max_poll_interval = "40s"
[retry]
initial = "50ms"
max = "2s"
[dead_letters]
max_per_minute = 100000
[transforms]
cache_dir = ""
watch = "0ms"
[sinks.redis]
kind = "redis"
url = "redis://redis.simulated:6379"
write_timeout = "2s"
[sinks.mongodb]
kind = "mongodb"
uri = "mongodb://mongodb.simulated:27017"
database = "shop"
write_timeout = "2s"
sweep_page = 7
"#;

const ROUTE: &str = r#"
[[routes]]
name = "TABLE"
topic = "shop.TABLE"
table = "shop.TABLE"
format = "json"
[routes.columns]
id = "int not null"
line = "varchar(9) not null"
note = "varchar(9)"
v = "int not null"
[routes.transform]
module = "guest.wasm"
call_timeout = "60s"
[routes.targets.r]
sink = "redis"
prefix = "TABLE"
form = "FORM"
[routes.targets.m]
sink = "mongodb"
collection = "TABLE"
"#;

/// Made once, for all histories.
pub struct Setting {
    strings: Settings,
    hashes: Settings,
    pub modules: Vec<Arc<Module>>,
}

impl Setting {
    pub fn get() -> &'static Self {
        static SETTING: OnceLock<Setting> = OnceLock::new();
        SETTING.get_or_init(Self::make)
    }

    fn make() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("guest.wasm"), component(include_str!("guest.wat"))).expect("written");
        let settings = |form| {
            let routes = TABLES.map(|table| ROUTE.replace("TABLE", table).replace("FORM", form)).concat();
            Settings::parse(&format!("{CONFIGURATION}{routes}"), directory.path()).expect("valid")
        };
        let (strings, hashes) = (settings("string"), settings("hash"));
        let host = TransformHost::new(&strings.transforms).expect("a host");
        let modules = strings.routes.iter().map(|route| host.load(&route.transform).expect("a module")).collect();
        Self { strings, hashes, modules }
    }

    /// The settings of one worker.
    pub fn of_worker(&self, world: &World, dice: &mut Dice) -> Settings {
        let mut settings = if world.hashes { &self.hashes } else { &self.strings }.clone();
        settings.batch.max_records = world.max_records;
        if world.truncates && !world.truncates_halt() {
            settings.routes.iter_mut().for_each(|route| Arc::make_mut(route).on_truncate = OnTruncate::Clear);
        }
        settings.batch.linger = Duration::from_millis(dice.below(8));
        settings.batch.prepared_ahead = dice.between(1, 3) as usize;
        settings.kafka.commit_interval = Duration::from_millis(*dice.pick(&[1, 100, 2_000]).unwrap_or(&1));
        settings.loss_check_interval = Duration::from_secs(*dice.pick(&[5, 20]).unwrap_or(&5));
        let sweep_interval = Duration::from_secs(*dice.pick(&[10, 25]).unwrap_or(&10));
        for sink in &mut settings.sinks {
            if let SinkKind::MongoDb(mongodb) = &mut sink.kind {
                mongodb.sweep_interval = sweep_interval;
            }
        }
        settings.retry.jitter_seed = Some(dice.draw());
        settings
    }
}
