//! Names, labels and help texts. They don't change once released.

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// In Prometheus's own form, with the unit at the end.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// For the operator.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:literal, $labels:expr, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Definition = Definition { name: $name, kind: $kind, labels: &$labels, help: $help };)*

        /// All metrics.
        pub const ALL: &[Definition] = &[$($constant),*];
    };
}

// A macro, so that a metric can't be missing in the list with which the documentation is compared.
metrics! {
    RECORDS = "streamsync_records_total", "counter", ["route", "outcome"], "Records settled, by their one outcome: applied, superseded, stale, filtered, dead_lettered.";
    RECORDS_CONSUMED = "streamsync_records_consumed_total", "counter", ["route"], "Records read from Kafka, once they are settled: the outcomes add up to them.";
    DECODE_SECONDS = "streamsync_decode_seconds", "histogram", ["route"], "Time to decode a batch.";
    TRANSFORM_SECONDS = "streamsync_transform_seconds", "histogram", ["route"], "Time a batch spent in its guest, lowering and checking included.";
    PLAN_SECONDS = "streamsync_plan_seconds", "histogram", ["route"], "Time to encode and coalesce a batch's writes.";
    WRITE_SECONDS = "streamsync_write_seconds", "histogram", ["sink"], "Time until the sink acknowledged a batch.";
    COMMIT_SECONDS = "streamsync_commit_seconds", "histogram", [], "Time until the consumer group had an offset.";
    BATCH_RECORDS = "streamsync_batch_records", "histogram", ["route"], "Records of a batch.";
    WRITES = "streamsync_writes_total", "counter", ["sink", "result"], "Fenced writes by result: applied, duplicate, stale, conflict (the key has this version with other content: made by another module, or by one that is not deterministic), refused, retried.";
    DEAD_LETTERS = "streamsync_dead_letters_total", "counter", ["route", "stage", "code"], "Dead letters by the stage that met the fault and its code; at most 50 codes a route, then other.";
    KEYS_MARKED = "streamsync_keys_marked_total", "counter", ["route"], "Keys, of each sink, marked because a record of theirs was dead-lettered; a newer write clears the mark.";
    PASSED_OVER = "streamsync_passed_over_total", "counter", ["route", "kind"], "Records that are no row changes: heartbeat, transaction, schema_change, message, empty_record.";
    TRANSFORM_CALLS = "streamsync_transform_calls_total", "counter", ["route"], "Calls into the guest, a canary's among them.";
    TRANSFORM_TRAPS = "streamsync_transform_traps_total", "counter", ["route", "kind"], "Events that were given up because the guest failed on them, by kind: trap, timeout, memory, output, contract, error.";
    TRANSFORM_RESTARTS = "streamsync_transform_restarts_total", "counter", ["route"], "Guest instances replaced, after a trap or because their memory had grown.";
    TRANSFORM_MEMORY_BYTES = "streamsync_transform_memory_bytes", "gauge", ["route"], "Linear memory of the route's guest instances, a canary's among them.";
    GUEST = "streamsync_guest_total", "counter", ["route", "name"], "Counters of the guests themselves, a canary's among them; at most 50 names a route, then other.";
    MODULE_INFO = "streamsync_module_info", "gauge", ["route", "digest"], "1 for the module that the route runs, by its SHA-256.";
    MODULE_SWAPS = "streamsync_module_swaps_total", "counter", ["route", "result"], "Changes of a route's module by result: swapped, promoted, rolled_back, refused.";
    SHADOW_EVENTS = "streamsync_shadow_events_total", "counter", ["route", "result"], "Events that a second module was compared on, by result: equal, different, failed, skipped (it was busy, or had no place yet).";
    ROUTE_HALTED = "streamsync_route_halted", "gauge", ["route"], "1 while the route is halted and waits for an operator.";
    ROUTE_UNPROVEN = "streamsync_route_unproven", "gauge", ["route"], "1 while the route's sinks may hold rows that MySQL no longer has: a second snapshot came, or a generation was begun, and no rebuild has swept yet.";
    RETRIES = "streamsync_retries_total", "counter", ["sink"], "Attempts repeated because the sink was away.";
    SINK_UP = "streamsync_sink_up", "gauge", ["sink"], "0 while anything of this worker waits for the sink, else 1.";
    REWINDS = "streamsync_rewinds_total", "counter", ["sink"], "Partitions that were read again because the sink was not as it was left: emptied, put back, or served by another process.";
    SWEPT = "streamsync_swept_total", "counter", ["sink"], "Documents removed at the end of a rebuild, because it did not write them again.";
    CONSUMER_LAG_RECORDS = "streamsync_consumer_lag_records", "gauge", ["topic", "partition"], "Records between the settled position and the end of the partition.";
    LAST_SETTLED_SECONDS = "streamsync_last_settled_timestamp_seconds", "gauge", ["topic", "partition"], "When the partition last settled a record, in seconds since the Unix epoch.";
    END_TO_END_SECONDS = "streamsync_end_to_end_seconds", "histogram", ["route", "from"], "Latency until all sinks acknowledged a record: from=source counts from the change in MySQL, without snapshots and null values; from=kafka from Kafka's timestamp.";
    KAFKA_UP = "streamsync_kafka_up", "gauge", [], "0 while no broker answers, or the consumer group has not taken this worker in.";
    PARTITIONS_ASSIGNED = "streamsync_partitions_assigned", "gauge", [], "Partitions that this worker has.";
    PREPARED_BATCHES = "streamsync_prepared_batches", "gauge", [], "Batches that are prepared and wait for their write.";
    REBALANCES = "streamsync_rebalances_total", "counter", [], "Assignments and revocations.";
    COMMITS = "streamsync_commits_total", "counter", ["result"], "Offset commits by result: ok, retried, lost.";
    BUILD_INFO = "streamsync_build_info", "gauge", ["version"], "1, with the version of this build.";
    PROCESS_RESIDENT_MEMORY_BYTES = "process_resident_memory_bytes", "gauge", [], "Resident memory of the process.";
    PROCESS_CPU_SECONDS = "process_cpu_seconds_total", "counter", [], "User and system time of the process.";
    PROCESS_OPEN_FDS = "process_open_fds", "gauge", [], "Open file descriptors of the process.";
    PROCESS_THREADS = "process_threads", "gauge", [], "Threads of the process.";
}
