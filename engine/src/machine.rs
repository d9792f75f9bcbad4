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
