//! The process itself, read from `/proc/self` when the metrics are scraped. On a system without it the values stay 0.

use prometheus::{Counter, IntGauge, Registry};

use super::names;

/// What the kernel knows of this process.
pub(super) struct Process {
    resident: IntGauge,
    cpu: Counter,
    open_fds: IntGauge,
    threads: IntGauge,
}

/// `USER_HZ`: what Linux reports times in, on every machine that runs this.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |definition| Ok::<_, prometheus::Error>(super::gauges(registry, definition)?.with_label_values::<&str>(&[]));
        Ok(Self {
            resident: gauge(&names::PROCESS_RESIDENT_MEMORY_BYTES)?,
            cpu: super::counter(registry, &names::PROCESS_CPU_SECONDS)?,
            open_fds: gauge(&names::PROCESS_OPEN_FDS)?,
            threads: gauge(&names::PROCESS_THREADS)?,
        })
    }

    pub(super) fn update(&self) {
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            self.resident.set(field(&status, "VmRSS:").unwrap_or(0) * 1024);
            self.threads.set(field(&status, "Threads:").unwrap_or(0));
        }
        if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
            // Two scrapes at a time may both add the same difference's part: a counter that only grows is what matters.
            self.cpu.inc_by((cpu_seconds(&stat).unwrap_or(0.0) - self.cpu.get()).max(0.0));
        }
        if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(i64::try_from(fds.count()).unwrap_or(i64::MAX));
        }
    }
}

fn field(status: &str, name: &str) -> Option<i64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The process's name, which comes first, may hold spaces and parentheses; the 14th and 15th fields are user and system time.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc() {
        assert_eq!(field("Name:\tx\nVmRSS:\t  1234 kB\nThreads:\t7\n", "VmRSS:"), Some(1234));
        let stat = "1 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("nothing"), None);
    }
}
