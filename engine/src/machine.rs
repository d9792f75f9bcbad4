//! What the engine takes of the machine beside IO: the time of day, and threads for what takes long.
//!
//! A simulation brings a clock of its own, which stands where the simulated time stands, and runs everything on its one thread: only so
//! does one seed give one history.

use tokio::task::JoinSet;
use tokio::time::Instant;

/// Makes ring the cryptography of every TLS connection of this process that brings none of its own: reqwest's clients ask for one when they are
/// built, and panic where there is none. A second call changes nothing.
pub fn use_ring() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails where another thread came first, with the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

/// At most so many of glibc's arenas.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAX_ARENAS: std::ffi::c_int = 4;

/// Bounds what glibc's allocator keeps. It makes up to eight arenas a core, and in each stays what was freed there: with a backlog a worker of two
/// cores held 151 MB, with four arenas 129 MB, at the same speed. Whoever sets the number for the process has the last word.
pub fn bound_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() && std::env::var_os("GLIBC_TUNABLES").is_none() {
        #[expect(unsafe_code, reason = "a call into libc")]
        // SAFETY: it takes two numbers, and sets one of the allocator's own under its lock.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, MAX_ARENAS);
        }
    }
}

/// Lets whoever runs go on when a thread of this process wakes up and finds no processor free: SCHED_BATCH, which has the same part of the
/// machine and is less eager for it (docs/decisions/0025-batch-scheduling.md). Threads have it of whoever starts them, so it comes before the
/// first. A policy that was set for the process stays.
pub fn schedule_as_batch() {
    #[cfg(target_os = "linux")]
    {
        let none = libc::sched_param { sched_priority: 0 };
        #[expect(unsafe_code, reason = "calls into libc")]
        // SAFETY: 0 is this thread; the other parameter is read and not kept. musl refuses both, and nothing changes there.
        unsafe {
            if libc::sched_getscheduler(0) == libc::SCHED_OTHER {
                libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none);
            }
        }
    }
}

/// The machine that a worker runs on.
#[derive(Clone, Copy, Debug)]
pub struct Machine(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Real,
    Simulated { began: Instant, began_at_ms: i64 },
}

impl Machine {
    /// This one.
    pub const REAL: Self = Self(Kind::Real);

    /// One whose time is tokio's, and which has a single thread. It is `now_ms` there now, in milliseconds since the Unix epoch.
    pub fn simulated(now_ms: i64) -> Self {
        Self(Kind::Simulated { began: Instant::now(), began_at_ms: now_ms })
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(self) -> i64 {
        match self.0 {
            Kind::Real => std::time::UNIX_EPOCH.elapsed().map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Kind::Simulated { began, began_at_ms } => {
                began_at_ms.saturating_add(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Does what blocks or takes milliseconds away from the runtime's own threads. `None` where it panicked, which none of the engine's own
    /// code should. Dropped, it no longer waits.
    pub async fn away<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match self.0 {
            Kind::Real => {
                let mut working = JoinSet::new();
                working.spawn_blocking(work);
                working.join_next().await?.ok()
            }
            Kind::Simulated { .. } => Some(work()),
        }
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
#[expect(clippy::expect_used, unsafe_code, reason = "a test fails by panicking; a call into libc")]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_batch_process_are_batch_threads() {
        // SAFETY: it takes a number, and 0 is this thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let changed = std::thread::spawn(move || {
            schedule_as_batch();
            (policy(), std::thread::spawn(policy).join().expect("a thread"))
        });
        let before = policy();
        let expected = if before == libc::SCHED_OTHER { libc::SCHED_BATCH } else { before };
        assert_eq!(changed.join().expect("a thread"), (expected, expected));
        assert_eq!(policy(), before, "of that thread alone, and whom it starts");
    }
}
