//! Whether the sinks answer, as `/ready`, the status page and `streamsync_sink_up` say it.
//!
//! A sink is away while anyone waits for it. Whoever asks has a [`SinkWait`], which begins with an attempt that was not answered and ends with
//! its owner: a lane that is abandoned while it waits leaves nothing behind that nobody would ever take back.

use prometheus::IntGauge;

use super::Health;

/// A sink as it is shown.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct Sink {
    waiting: usize,
    pub(in crate::http) message: String,
}

impl Sink {
    pub(in crate::http) fn is_up(&self) -> bool {
        self.waiting == 0
    }
}

/// Someone who asks a sink, and may have to wait for it.
pub struct SinkWait<'h> {
    health: &'h Health,
    sink: &'h str,
    up: &'h IntGauge,
    waits: bool,
}

impl Health {
    /// A sink was found fit. `up` is its gauge.
    pub fn sink_found(&self, sink: &str, up: &IntGauge) {
        let mut state = self.lock();
        let known = state.sinks.entry(sink.to_owned()).or_default();
        up.set(i64::from(known.is_up()));
    }

    /// For as long as something is asked of a sink. `up` is its gauge: it changes under the same lock, so that the two never differ.
    pub fn asks<'h>(&'h self, sink: &'h str, up: &'h IntGauge) -> SinkWait<'h> {
        SinkWait { health: self, sink, up, waits: false }
    }
}

impl SinkWait<'_> {
    /// The sink did not answer, and is asked again. The message holds no secret and no row.
    pub fn away(&mut self, message: &str) {
        let mut state = self.health.lock();
        let sink = state.sinks.entry(self.sink.to_owned()).or_default();
        if !std::mem::replace(&mut self.waits, true) {
            sink.waiting += 1;
        }
        message.clone_into(&mut sink.message);
        self.up.set(0);
    }
}

impl Drop for SinkWait<'_> {
    fn drop(&mut self) {
        // Whoever had an answer at once takes no lock.
        if !self.waits {
            return;
        }
        let mut state = self.health.lock();
        let sink = state.sinks.entry(self.sink.to_owned()).or_default();
        sink.waiting = sink.waiting.saturating_sub(1);
        if sink.is_up() {
            sink.message.clear();
            self.up.set(1);
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::http::Phase;
    use std::time::Duration;

    #[test]
    fn a_sink_is_away_while_anyone_waits_for_it() {
        let health = Health::new(Duration::from_secs(60));
        health.phase(Phase::Running);
        let up = IntGauge::new("up", "test").expect("a gauge");
        let check = |away: &[&str]| {
            let expected: Vec<String> = away.iter().map(|message| format!("sink redis is away: {message}")).collect();
            assert_eq!((health.reasons(), up.get()), (expected, i64::from(away.is_empty())));
        };
        health.sink_found("redis", &up);
        check(&[]);
        let (mut one, mut two) = (health.asks("redis", &up), health.asks("redis", &up));
        check(&[]);
        one.away("refused");
        one.away("refused again");
        two.away("timed out");
        check(&["timed out"]);
        // Whether it had its answer or was abandoned: nobody is left whom the sink keeps waiting.
        drop(two);
        check(&["timed out"]);
        health.sink_found("redis", &up);
        check(&["timed out"]);
        drop(one);
        check(&[]);
    }
}
