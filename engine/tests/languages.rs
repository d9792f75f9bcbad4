//! One transform in five languages says the same, byte for byte, in batches of any size.
//!
//! `cargo xtask test` builds the components with the languages' own tools and sets `STREAMSYNC_TEST_LANGUAGES` to their folder; with
//! `STREAMSYNC_TEST_REQUIRE_LANGUAGES=1` a missing one is a failure. `UPDATE_EXPECTED=1` writes the expected files anew: read the difference.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "languages/cases.rs"]
mod cases;
#[path = "languages/cost.rs"]
#[expect(clippy::print_stdout, reason = "figures are printed")]
mod cost;
#[path = "languages/said.rs"]
mod said;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use streamsync::config::{
    Format, OnTruncate, Place, PullSettings, RedisForm, RouteSettings, TargetSettings, TransformHostSettings, TransformSettings,
};
use streamsync::transform::{Guest, Module, TransformHost};

use cases::Case;
use said::Said;

const COMPONENTS: &str = "STREAMSYNC_TEST_LANGUAGES";
/// The first is what the others are compared with.
const LANGUAGES: [&str; 5] = ["rust", "c", "go", "js", "python"];
const BATCH_SIZES: [usize; 3] = [1, 7, 256];

/// The folder of the components, or why there is nothing to test.
fn components() -> Option<PathBuf> {
    let folder = std::env::var_os(COMPONENTS).map(PathBuf::from);
    let required = std::env::var("STREAMSYNC_TEST_REQUIRE_LANGUAGES").is_ok_and(|value| value == "1");
    assert!(folder.is_some() || !required, "{COMPONENTS} is not set, and STREAMSYNC_TEST_REQUIRE_LANGUAGES=1 wants every language tested");
    folder
}

fn settings(module: PathBuf, config: &str) -> TransformSettings {
    TransformSettings {
        module: module.into(),
        sha256: None,
        signature_key: None,
        config: config.to_owned(),
        // Python on a machine that is busy with other tests.
        call_timeout: Duration::from_secs(30),
        max_memory_bytes: 256 << 20,
        max_output_bytes: 64 << 20,
        max_log_lines: 100,
        max_failures: 100,
        shadow: None,
    }
}

fn target(name: &str, place: Place) -> Arc<TargetSettings> {
    Arc::new(TargetSettings { name: name.into(), sink: 0, place, explicit_keys: name == "keyed", ttl_seconds: None })
}

fn route(case: &Case, transform: TransformSettings) -> Arc<RouteSettings> {
    let redis = |name: &str| target(name, Place::Redis { prefix: name.into(), form: RedisForm::String });
    let mongodb = target("mongodb", Place::MongoDb { collection: "documents".into() });
    let mut targets = vec![redis("redis"), mongodb];
    if case.name == "features" {
        targets.extend([redis("keyed"), redis("whole")]);
    }
    Arc::new(RouteSettings {
        name: case.name.into(),
        topic: case.name.into(),
        database: "ecommerce".into(),
        table: case.name.into(),
        format: Format::JsonWithSchema,
        transform,
        targets,
        on_truncate: OnTruncate::Halt,
    })
}

/// What a language's guest says of a case's events.
fn said(module: &Arc<Module>, case: &Case, path: &Path, batch_size: usize) -> Said {
    let route = route(case, settings(path.to_owned(), case.config));
    let mut guest = Guest::new(Arc::clone(module), Arc::clone(&route), &[]).expect("the guest takes the configuration");
    let mut said = Said::default();
    for batch in case.batches(&route, batch_size) {
        said.add(&guest.apply(batch));
    }
    let stats = guest.stats();
    said.log_lines = stats.log_lines;
    said.counters = stats.counters.clone();
    said
}

fn host() -> TransformHost {
    let cache_dir = std::env::var_os("STREAMSYNC_TEST_MODULE_CACHE").map(PathBuf::from);
    TransformHost::new(&TransformHostSettings { cache_dir, max_instances: 2, watch: None, pulls: PullSettings::default() }).expect("a host")
}

/// Runs a case in each language.
fn check(cases: &[Case]) {
    let Some(folder) = components() else { return };
    let host = host();
    for case in cases {
        let mut reference: Vec<Said> = Vec::new();
        for language in LANGUAGES {
            let path = folder.join(language).join(case.name).with_extension("wasm");
            let module = host.load(&settings(path.clone(), case.config)).unwrap_or_else(|error| panic_with(&error.to_string()));
            for (index, batch_size) in BATCH_SIZES.into_iter().enumerate() {
                let said = said(&module, case, &path, batch_size);
                assert_eq!(
                    said.text,
                    reference.first().map_or(&said.text, |first| &first.text).clone(),
                    "{language} {} by {batch_size}",
                    case.name
                );
                match reference.get(index) {
                    // Not only the same documents: the same bytes.
                    Some(reference) => assert_eq!(&said, reference, "{language} {} by {batch_size}", case.name),
                    None => reference.push(said),
                }
            }
        }
        case.compare(&reference[0].text);
    }
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn panic_with(message: &str) -> ! {
    panic!("{message}")
}

#[test]
fn the_default_transforms_on_recorded_events() {
    check(&[Case::recorded("orders"), Case::recorded("customers"), Case::recorded("shipping_info")]);
}

#[test]
fn orders_of_every_kind() {
    check(&[cases::orders()]);
}

#[test]
fn everything_that_an_sdk_can_do() {
    check(&[cases::features()]);
}

/// Each language has its own words for it.
#[test]
fn a_wrong_configuration_is_refused() {
    let Some(folder) = components() else { return };
    let host = host();
    let case = cases::features();
    for language in LANGUAGES {
        let path = folder.join(language).join("features.wasm");
        let start = |config: &str| {
            let settings = settings(path.clone(), config);
            let module = host.load(&settings).unwrap_or_else(|error| panic_with(&error.to_string()));
            Guest::new(module, route(&case, settings), &[]).map(drop)
        };
        for config in ["", "{}", r#"{"ratio":null}"#, r#"{"ratio":2}"#, r#"{"ratio":-1.5e-3,"nested":[[]]}"#] {
            start(config).unwrap_or_else(|error| panic_with(&format!("{language} {config}: {error}")));
        }
        let wrong = [(r#"{"ratio":"0.1"}"#, ""), (r#"{"ratio":true}"#, ""), (r#"{"ratio":[1]}"#, ""), (r#"{"ratios":1}"#, "ratios")];
        for (config, setting) in wrong {
            let error = start(config).err().unwrap_or_else(|| panic_with(&format!("{language} takes {config}"))).to_string();
            assert!(
                error.contains("the config of the transform \"features\": ") && error.contains(setting),
                "{language} {config}: {error}"
            );
        }
    }
}

/// Takes a minute, and says nothing of right and wrong: only on request.
#[test]
fn cost() {
    if std::env::var_os("STREAMSYNC_TEST_MEASURE").is_some() {
        cost::print(&components().expect("STREAMSYNC_TEST_LANGUAGES"));
    }
}
