//! Marks the keys of records that were given up, once their letters are kept.

use super::{Backoff, Settler};
use crate::disposition::{self, Disposition};
use crate::plan::SinkWrites;
use crate::sink::WriteOutcome;

impl Settler {
    /// Returns when a sink has the marks, or has said that a key takes none. A worker that dies before sends the letter and the mark again.
    pub(super) async fn mark(&self, mut marks: SinkWrites) -> Result<(), String> {
        let (Some(sink), Some(metrics)) = (self.shared.sinks.get(marks.sink), self.shared.sink_metrics.get(marks.sink)) else {
            return Err(format!("the plan names sink {}, which is not configured", marks.sink));
        };
        let mut wait = self.shared.health.asks(sink.name(), &metrics.up);
        let mut backoff = Backoff::new(&self.shared.settings.retry);
        loop {
            self.await_poll().await;
            let mut again = Vec::new();
            for (mark, result) in marks.writes.iter().zip(sink.mark(&marks).await) {
                let error = match result {
                    Ok(outcome) => {
                        if outcome == WriteOutcome::Applied {
                            self.meter.marked();
                        }
                        continue;
                    }
                    Err(error) => error,
                };
                match disposition::of_sink(&error) {
                    Disposition::Retry => {
                        if again.is_empty() {
                            wait.away(&error.to_string());
                            tracing::warn!(sink = sink.name(), route = self.route_name(), error = %error, "marking is delayed");
                        }
                        again.push(mark.clone());
                    }
                    // The letter is kept; a key that takes no mark takes no write either.
                    Disposition::DeadLetter => {
                        tracing::warn!(sink = sink.name(), route = self.route_name(), offset = mark.fence.offset(), error = %error, "a key is not marked");
                    }
                    Disposition::Halt => return Err(error.to_string()),
                }
            }
            if again.is_empty() {
                return Ok(());
            }
            marks.writes = again;
            backoff.wait().await;
        }
    }
}
