//! What a guest may use and what it may call: memory, tables, log lines, counters.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wasmtime::{ResourceLimiter, UpdateDeadline};

use super::bindings::streamsync::transform::{log, metrics, types};
use super::host::EPOCH;

/// Table elements of one table; scripting languages need 100,000.
pub(super) const MAX_TABLE_ELEMENTS: usize = 200_000;
/// Different counters of one call, and of a lane's whole life: who makes a name of each row must not fill the memory.
const MAX_COUNTERS: usize = 64;
/// The counter of all names beyond these, as in the metrics.
const OTHER: &str = "other";
/// Longest name of a counter.
const MAX_COUNTER_NAME_BYTES: usize = 64;
/// Longest log message; the rest is cut off.
const MAX_LOG_LINE_BYTES: usize = 2048;
/// So much longer than it ran a call rests that goes slowly: it has a thirty-second part of a core.
const REST: u32 = 31;

/// A store's data: the limits of one instance, and what it said during the current call.
pub(super) struct Limits {
    max_memory_bytes: usize,
    max_log_lines: usize,
    pub(super) memory_bytes: usize,
    pub(super) out_of_memory: bool,
    pub(super) slowly: Option<Slowly>,
    pub(super) said: Said,
}

/// A call that leaves the processor to others for most of its time.
pub(super) struct Slowly {
    /// When its time is over.
    until: Instant,
    /// Since when it runs, once it has rested.
    resumed: Option<Instant>,
}

impl Slowly {
    pub(super) fn begin(timeout: Duration) -> Self {
        Self { until: Instant::now() + timeout, resumed: None }
    }

    /// Whether the call goes on. The tick that ends its turn may have come late.
    fn rest(&mut self) -> bool {
        let now = Instant::now();
        let left = self.until.saturating_duration_since(now);
        let ran = self.resumed.map_or(EPOCH, |resumed| now.saturating_duration_since(resumed).max(EPOCH));
        std::thread::sleep(left.min(ran.saturating_mul(REST)));
        self.resumed = Some(Instant::now());
        !left.is_zero()
    }
}

/// What a guest said during one call. It is released only when the call's answer is good.
#[derive(Default)]
pub(super) struct Said {
    pub(super) lines: Vec<(log::Level, String)>,
    pub(super) dropped_lines: u64,
    pub(super) counters: BTreeMap<String, u64>,
}

impl Limits {
    pub(super) fn new(max_memory_bytes: usize, max_log_lines: usize) -> Self {
        Self { max_memory_bytes, max_log_lines, memory_bytes: 0, out_of_memory: false, slowly: None, said: Said::default() }
    }

    /// What becomes of a call whose ticks are over.
    pub(super) fn ticks_are_over(&mut self) -> UpdateDeadline {
        let goes_on = self.slowly.as_mut().is_some_and(Slowly::rest);
        if goes_on { UpdateDeadline::Continue(1) } else { UpdateDeadline::Interrupt }
    }
}

/// A refused growth is an error, not a -1 for the guest: a guest that goes on without its memory would fail later and elsewhere.
impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.max_memory_bytes {
            self.out_of_memory = true;
            return Err(wasmtime::Error::msg("the guest's memory limit is reached"));
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.out_of_memory = true;
        Err(error)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            self.out_of_memory = true;
            return Err(wasmtime::Error::msg("the guest's limit of table elements is reached"));
        }
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.out_of_memory = true;
        Err(error)
    }
}

impl types::Host for Limits {}

impl log::Host for Limits {
    fn emit(&mut self, level: log::Level, mut message: String) {
        if self.said.lines.len() >= self.max_log_lines {
            self.said.dropped_lines += 1;
            return;
        }
        message.truncate(message.floor_char_boundary(MAX_LOG_LINE_BYTES));
        self.said.lines.push((level, message));
    }
}

impl metrics::Host for Limits {
    fn add(&mut self, counter: String, delta: u32) {
        let is_name = !counter.is_empty()
            && counter.len() <= MAX_COUNTER_NAME_BYTES
            && counter.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if is_name {
            count(&mut self.said.counters, counter, delta.into());
        }
    }
}

/// Adds to a counter, or to the one of all others where there are as many as there may be.
pub(super) fn count(counters: &mut BTreeMap<String, u64>, name: String, delta: u64) {
    let has_place = counters.len() < MAX_COUNTERS || counters.contains_key(&name);
    *counters.entry(if has_place { name } else { OTHER.to_owned() }).or_default() += delta;
}
