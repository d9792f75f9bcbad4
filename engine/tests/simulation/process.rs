//! A worker's process: it runs, it is stopped for a while (SIGSTOP), or it is dead (SIGKILL).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::world::locked;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Dead,
}

pub struct Process {
    state: Mutex<State>,
    /// Not a `watch`: that one wakes its receivers in an order drawn by lot.
    changed: Notify,
    /// Since when the consumer has not polled; `None`: it polls all the time.
    not_polled_since: Mutex<Option<Instant>>,
    in_callback: AtomicBool,
    /// Since when the group has heard nothing.
    silent_since: Mutex<Option<Instant>>,
}

/// Without times: they differ from run to run, and what is told of a history must not.
impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", *locked(&self.state))
    }
}

impl Process {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State::Running),
            changed: Notify::new(),
            not_polled_since: Mutex::default(),
            in_callback: AtomicBool::new(false),
            silent_since: Mutex::default(),
        }
    }

    pub fn pause(&self) {
        if !self.is_running() {
            return;
        }
        self.set(State::Paused);
        locked(&self.not_polled_since).get_or_insert_with(Instant::now);
        *locked(&self.silent_since) = Some(Instant::now());
    }

    pub fn resume(&self) {
        if self.is_paused() {
            *locked(&self.silent_since) = None;
            self.set(State::Running);
        }
    }

    pub fn kill(&self) {
        self.set(State::Dead);
        locked(&self.silent_since).get_or_insert_with(Instant::now);
    }

    fn set(&self, state: State) {
        *locked(&self.state) = state;
        self.changed.notify_waiters();
    }

    async fn reaches(&self, state: State) {
        loop {
            let changed = self.changed.notified();
            if *locked(&self.state) == state {
                return;
            }
            changed.await;
        }
    }

    pub fn is_running(&self) -> bool {
        *locked(&self.state) == State::Running
    }

    pub fn is_paused(&self) -> bool {
        *locked(&self.state) == State::Paused
    }

    pub fn is_dead(&self) -> bool {
        *locked(&self.state) == State::Dead
    }

    /// Waits while it is stopped. What is dead never goes on.
    pub async fn running(&self) {
        self.reaches(State::Running).await;
    }

    pub async fn dead(&self) {
        self.reaches(State::Dead).await;
    }

    /// The polling thread waits in a callback.
    pub fn begin_callback(&self) {
        self.in_callback.store(true, Ordering::Relaxed);
        locked(&self.not_polled_since).get_or_insert_with(Instant::now);
    }

    pub fn end_callback(&self) {
        self.in_callback.store(false, Ordering::Relaxed);
        self.polls();
    }

    /// The polling thread polls, unless it is in a callback.
    pub fn polls(&self) {
        if self.is_running() && !self.in_callback.load(Ordering::Relaxed) {
            *locked(&self.not_polled_since) = None;
        }
    }

    pub fn last_poll_age(&self) -> Duration {
        locked(&self.not_polled_since).map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub fn silence(&self) -> Duration {
        locked(&self.silent_since).map_or(Duration::ZERO, |since| since.elapsed())
    }
}
