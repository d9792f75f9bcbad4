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
/// Between two ticks of a call that goes slowly: it has a thirty-second part of a core.
const REST: Duration = EPOCH.saturating_mul(31);

/// A store's data: the limits of one instance, and what it said during the current call.
pub(super) struct Limits {
    max_memory_bytes: usize,
    max_log_lines: usize,
    pub(super) memory_bytes: usize,
    pub(super) out_of_memory: bool,
    /// When the call's time is over, where it goes slowly until then.
    pub(super) slowly_until: Option<Instant>,
    pub(super) said: Said,
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
        Self { max_memory_bytes, max_log_lines, memory_bytes: 0, out_of_memory: false, slowly_until: None, said: Said::default() }
    }

    /// What becomes of a call whose ticks are over.
    pub(super) fn ticks_are_over(&self) -> UpdateDeadline {
        if self.slowly_until.is_none_or(|end| end <= Instant::now()) {
            return UpdateDeadline::Interrupt;
        }
        std::thread::sleep(REST);
        UpdateDeadline::Continue(1)
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
