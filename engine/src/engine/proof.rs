//! Ends a rebuild: when every partition's refill has reached its end in a sink, what it did not write again is removed from there.
//!
//! The worker that has partition 0 sweeps; all of them look at the control topic until the route is proven. A sweep that is interrupted is
//! begun again by whoever has the partition then: what is gone stays gone.
//!
//! Each sink keeps a mark of its sweep. One that comes back without it, as from a copy of before, has again what the sweep removed: the
//! rebuild goes on then.

use std::sync::Arc;

use crate::config::RouteSettings;
use crate::fence::Generation;
use crate::identity::{Entry, Rebuild, TopicRecord};
use crate::lane::Shared;
use crate::sink::{self, MarkOutcome, Replaces, Sink, Watermark};
use crate::source::TopicPartition;

/// Whoever has this partition sweeps.
pub(super) const SWEEPER: i32 = 0;

/// Looks after routes that are unproven, for as long as the worker runs.
pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        // Reading the control topic takes a connection of its own.
        tokio::time::sleep(shared.settings.loss_check_interval * 2).await;
        let unproven = shared.health.unproven_routes();
        let open: Vec<Arc<RouteSettings>> =
            shared.settings.routes.iter().filter(|route| unproven.contains(&route.name)).map(Arc::clone).collect();
        let topics: Vec<String> = open.iter().map(|route| route.topic.clone()).collect();
        if topics.is_empty() {
            continue;
        }
        match shared.identities.load(&topics).await {
            Ok(records) => {
                for route in open {
                    let record = records.get(&route.topic).cloned().unwrap_or_default();
                    prove(&shared, &route, record).await;
                }
            }
            Err(error) => tracing::warn!(error = %error, "whether routes are proven can't be read now"),
        }
    }
}

async fn prove(shared: &Shared, route: &RouteSettings, mut record: TopicRecord) {
    if shared.health.has_lane(&TopicPartition::new(route.topic.as_str(), SWEEPER))
        && let Err(message) = sweep(shared, route, &mut record).await
    {
        tracing::warn!(route = route.name, error = message, "the sweep that ends a rebuild failed; it is begun again");
        return;
    }
    let doubts = shared.health.doubts(&route.name);
    let why = match record.unproven() {
        Some(why) => Some(why),
        // A sweep may take hours, and the record is older than it: what lanes have noted since counts too, also those of other workers.
        None => match shared.identities.load(std::slice::from_ref(&route.topic)).await {
            Ok(mut records) => records.remove(&route.topic).unwrap_or_default().unproven(),
            Err(error) => return tracing::warn!(route = route.name, error = %error, "whether the route is proven can't be read now"),
        },
    };
    match why {
        Some(why) => shared.unproven(&route.name, &why),
        None if shared.health.route_proven(&route.name, doubts, &shared.metrics.route(&route.name).unproven) => {
            tracing::info!(route = route.name, "the route is proven: its sinks hold what the topic has, and nothing else");
        }
        // A lane of this worker has noted something that the record did not have yet.
        None => {}
    }
}

/// Sweeps where that is due, and takes into the record what came of it.
async fn sweep(shared: &Shared, route: &RouteSettings, record: &mut TopicRecord) -> Result<(), String> {
    if let Some(rebuild) = record.open_rebuild().cloned()
        && let Some(done) = finish(shared, route, record, rebuild).await?
    {
        record.take(done);
    }
    // Whoever wrote that it is done may have done so late: a sink that lost its mark meanwhile is looked at once more.
    let Some(done) = record.done_rebuild().cloned() else { return Ok(()) };
    for sink in route.sinks().into_iter().filter_map(|index| shared.sinks.get(index)) {
        if !is_swept(sink.as_ref(), &shared.settings.kafka.group, &route.topic, &done).await.map_err(|error| error.to_string())? {
            let again = reopened(&done);
            shared.identities.store(&route.topic, &again).await.map_err(|error| error.to_string())?;
            record.take(again);
            break;
        }
    }
    Ok(())
}

/// The rebuild goes on.
pub(super) fn reopened(done: &Rebuild) -> Entry {
    Entry::Rebuild(Rebuild { swept_at_ms: None, ..done.clone() })
}

/// Whether a sink has the mark of this rebuild's sweep. It has the form of a watermark, so that in a cluster every shard has one.
pub(super) async fn is_swept(sink: &dyn Sink, group: &str, topic: &str, done: &Rebuild) -> Result<bool, sink::Error> {
    let mark = sink.watermark(group, &sweeps(topic)).await?;
    Ok(mark.is_some_and(|mark| mark.generation.number() >= done.generation))
}

/// In the place of a partition, which no topic has.
fn sweeps(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, -1)
}

/// Sweeps and says so in the control topic, once every sink is refilled.
async fn finish(shared: &Shared, route: &RouteSettings, record: &TopicRecord, rebuild: Rebuild) -> Result<Option<Entry>, String> {
    let (Some(generation), Some(ends)) = (Generation::new(rebuild.generation), rebuild.ends.clone()) else { return Ok(None) };
    let sinks: Vec<(usize, &Arc<dyn Sink>)> =
        route.sinks().into_iter().filter_map(|index| Some((index, shared.sinks.get(index)?))).collect();
    let refilled = async |sink: &dyn Sink| -> Result<Option<u64>, String> {
        let lineage = sink.lineage().await.map_err(|error| error.to_string())?;
        let refilled = is_refilled(shared, sink, route, record, generation, &ends).await.map_err(|error| error.to_string())?;
        Ok(refilled.then_some(lineage))
    };
    for (_, sink) in &sinks {
        if refilled(sink.as_ref()).await?.is_none() {
            return Ok(None);
        }
    }
    for (index, sink) in sinks {
        // Once more: the sweep of the sink before may have taken hours, and one that was put back to an older copy meanwhile has rows that only its
        // refill will write again.
        let Some(lineage) = refilled(sink.as_ref()).await? else { return Ok(None) };
        for target in route.targets.iter().filter(|target| target.sink == index) {
            let swept = sink.sweep_generation(target, generation).await.map_err(|error| error.to_string())?;
            if let Some(metrics) = shared.sink_metrics.get(index) {
                metrics.swept.inc_by(swept);
            }
            tracing::info!(
                route = route.name,
                sink = sink.name(),
                place = target.place.name(),
                swept,
                "what the rebuild did not write again is removed"
            );
        }
        let now_ms = shared.machine.now_ms();
        let mark = Watermark { generation, next_offset: 0, written_at_ms: now_ms, complete_until_ms: now_ms };
        let (group, sweeps) = (&shared.settings.kafka.group, sweeps(&route.topic));
        let stored = sink.store_watermark(group, &sweeps, lineage, Replaces::NotBehind(None), mark).await;
        let stored = stored.map_err(|error| error.to_string())? == MarkOutcome::Stored;
        // In this order: a server that was put back meanwhile may have got the mark, and is another one now.
        if !stored || sink.lineage().await.map_err(|error| error.to_string())? != lineage {
            return Err(format!("the servers of {} changed meanwhile", sink.name()));
        }
    }
    let done = Entry::Rebuild(Rebuild { swept_at_ms: Some(shared.machine.now_ms()), ..rebuild });
    shared.identities.store(&route.topic, &done).await.map_err(|error| error.to_string())?;
    Ok(Some(done))
}

/// Whether a sink has acknowledged everything up to the end of each partition's refill, by its own word.
async fn is_refilled(
    shared: &Shared,
    sink: &dyn Sink,
    route: &RouteSettings,
    record: &TopicRecord,
    generation: Generation,
    ends: &[i64],
) -> Result<bool, sink::Error> {
    for (partition, end) in (0..).zip(ends) {
        // Nothing of the generation was in the partition: nobody may have had reason to mark it.
        if record.begins_at(generation.number(), partition).is_some_and(|begins_at| begins_at >= *end) {
            continue;
        }
        let source = TopicPartition::new(route.topic.as_str(), partition);
        let watermark = sink.watermark(&shared.settings.kafka.group, &source).await?;
        if !watermark.is_some_and(|watermark| watermark.generation == generation && watermark.next_offset >= *end) {
            return Ok(false);
        }
    }
    Ok(true)
}
