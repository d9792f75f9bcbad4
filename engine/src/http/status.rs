//! The status as JSON: what the page shows.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::health::{Coming, Health, Phase, Shown};
use crate::metrics::Metrics;

/// Reads the state and the counters.
pub(super) fn json(metrics: &Metrics, health: &Health) -> Value {
    let reasons = health.reasons();
    let mut status = health.show(|stalled, shown| {
        let phase = match shown.phase {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
        };
        let partitions: Vec<Value> = shown
            .lanes
            .iter()
            .map(|lane| {
                let known = |number: i64| (number >= 0).then_some(number);
                json!({
                    "route": lane.route,
                    "topic": &*lane.source.topic,
                    "partition": lane.source.partition,
                    "next_offset": known(lane.next_offset.load(Ordering::Relaxed)),
                    "lag": known(lane.lag.load(Ordering::Relaxed)),
                    "settled_at_ms": lane.settled_at_ms.load(Ordering::Relaxed),
                    "stalled": stalled(lane),
                    "coming": lane.coming().as_ref().map(Coming::why),
                })
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "phase": phase,
            "uptime_seconds": shown.uptime.as_secs(),
            "partitions": partitions,
            "routes": routes(metrics, &shown),
            "sinks": sinks(metrics, &shown),
        })
    });
    if let Some(status) = status.as_object_mut() {
        status.insert("reasons".to_owned(), reasons.into());
    }
    status
}

fn routes(metrics: &Metrics, shown: &Shown<'_>) -> Vec<Value> {
    let route = |(name, route): (&String, &super::health::Route)| {
        let counters = metrics.route(name);
        json!({
            "name": name,
            "topic": route.topic,
            "table": route.table,
            "halted": route.halted,
            "unproven": route.unproven,
            "module": { "name": route.module.name, "version": route.module.version, "sha256": route.module.digest },
            "second": route.module.second.as_ref().map(|(digest, percent)| json!({ "sha256": digest, "canary_percent": percent })),
            "module_refused": route.refused,
            "consumed": counters.consumed.get(),
            "applied": counters.applied.get(),
            "superseded": counters.superseded.get(),
            "stale": counters.stale.get(),
            "filtered": counters.filtered.get(),
            "dead_lettered": counters.dead_lettered.get(),
        })
    };
    shown.routes.iter().map(route).collect()
}

fn sinks(metrics: &Metrics, shown: &Shown<'_>) -> Vec<Value> {
    use crate::sink::WriteOutcome;
    let sink = |(name, sink): (&String, &super::health::Sink)| {
        let counters = metrics.sink(name);
        json!({
            "name": name,
            "up": sink.is_up(),
            "message": sink.message,
            "applied": counters.outcome(WriteOutcome::Applied).get(),
            "duplicate": counters.outcome(WriteOutcome::Duplicate).get(),
            "stale": counters.outcome(WriteOutcome::Stale).get(),
            "conflict": counters.outcome(WriteOutcome::Conflict).get(),
            "retries": counters.retries.get(),
        })
    };
    shown.sinks.iter().map(sink).collect()
}
