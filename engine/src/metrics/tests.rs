#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn touched() -> Metrics {
    let metrics = Metrics::new().unwrap();
    let route = metrics.route("orders");
    route.passed_over(PassedOver::Heartbeat);
    route.dead_letter("decode", "not_json");
    route.trap("deadline");
    route.guest("permitted", 3);
    route.module("aa");
    metrics.committed(CommitResult::Ok);
    metrics.sink("redis").outcome(WriteOutcome::Stale).inc();
    metrics
}

#[test]
fn the_reference_is_what_the_registry_has() {
    let metrics = touched();
    let _lane = metrics.lane("t", 0);
    metrics.process.update();
    let gathered: Vec<String> = metrics
        .registry
        .gather()
        .iter()
        .map(|family| {
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            let first = family.get_metric().first().unwrap();
            let mut labels: Vec<&str> = first.get_label().iter().map(|label| label.name()).collect();
            labels.sort_unstable();
            format!("{} {kind} {labels:?} {}", family.name(), family.help())
        })
        .collect();
    let mut defined: Vec<String> = names::ALL
        .iter()
        .map(|d| {
            let mut labels = d.labels.to_vec();
            labels.sort_unstable();
            format!("{} {} {labels:?} {}", d.name, d.kind, d.help)
        })
        .collect();
    defined.sort();
    assert_eq!(gathered, defined);
}

#[test]
fn the_documentation_is_what_the_code_has() {
    let documented: Vec<&str> = include_str!("../../../docs/metrics.md").lines().filter(|line| line.starts_with("| `")).collect();
    let row = |d: &Definition| {
        let labels: Vec<String> = d.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
        format!("| `{}` | {} | {labels} | {} |", d.name, d.kind, d.help)
    };
    assert_eq!(documented, names::ALL.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn alerts_are_of_metrics_that_there_are_and_documented() {
    let rules = include_str!("../../../deploy/prometheus/alerts.yml");
    let documented = include_str!("../../../docs/metrics.md");
    let expressions: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(expressions.len(), rules.matches("- alert: ").count());
    for expression in expressions {
        assert!(documented.contains(&format!("| `{expression}` |")), "{expression}");
        for name in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("streamsync_")) {
            assert!(names::ALL.iter().any(|d| d.name == name), "{name}");
        }
    }
}

#[test]
fn a_guest_adds_only_so_many_labels() {
    let metrics = Metrics::new().unwrap();
    let route = metrics.route("orders");
    for number in 0..MAX_GUEST_LABELS + 10 {
        route.dead_letter("transform", &format!("code{number}"));
        route.guest(&format!("name{number}"), 1);
    }
    route.guest("name0", 5);
    let text = metrics.render();
    assert!(text.contains(r#"streamsync_dead_letters_total{code="other",route="orders",stage="transform"} 10"#), "{text}");
    assert!(text.contains(r#"streamsync_guest_total{name="other",route="orders"} 10"#), "{text}");
    assert!(text.contains(r#"streamsync_guest_total{name="name0",route="orders"} 6"#), "{text}");
}

#[test]
fn a_partitions_series_end_with_its_last_lane() {
    let metrics = Metrics::new().unwrap();
    let first = metrics.lane("t", 3);
    let second = metrics.lane("t", 3);
    second.lag.set(42);
    drop(first);
    let series = r#"streamsync_consumer_lag_records{partition="3",topic="t"} 42"#;
    assert!(metrics.render().contains(series));
    drop(second);
    assert!(!metrics.render().contains("streamsync_consumer_lag_records{"));
}

#[test]
fn a_new_module_replaces_the_old_one() {
    let metrics = Metrics::new().unwrap();
    let route = metrics.route("orders");
    route.module("aa");
    route.module("bb");
    let text = metrics.render();
    assert!(!text.contains("digest=\"aa\"") && text.contains("digest=\"bb\""), "{text}");
}

#[test]
fn the_process_is_measured() {
    let text = Metrics::new().unwrap().render();
    let resident = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).unwrap();
    assert!(resident.parse::<f64>().unwrap() > 1_000_000.0, "{resident}");
}

#[test]
fn the_readme_names_no_metric_that_does_not_exist() {
    let readme = include_str!("../../../README.md");
    let named: std::collections::BTreeSet<&str> = readme.split('`').filter(|word| word.starts_with("streamsync_")).collect();
    assert!(named.len() > 10, "the table has gone");
    let documented = include_str!("../../../docs/metrics.md");
    for name in named {
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is in README.md and not in docs/metrics.md");
    }
}
