//! A wall clock that jumps. libfaketime stands between one worker and the system's clock; the monotonic clock goes on as it is.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use integration_tests::deadline::until;

use super::ground::Ground;
use super::rig::{Rig, Verdict};

const SOME: i64 = 300;
const DAY: f64 = 86_400.0;
/// Where distributions put the library, by Debian's triplet or without.
const FOLDERS: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];

pub(crate) async fn clock_moved(ground: &mut Ground) -> Result<Verdict> {
    let library = library()?;
    let mut rig = Rig::start(ground, "clock_moved", 1).await?;
    rig.fault("one worker's clock 40 days ahead, then 40 days behind");
    let clock = rig.case.dir().join("clock");
    set(&clock, "+0")?;
    let variable = |name: &str, value: &Path| (name.to_owned(), value.to_string_lossy().into_owned());
    let faked = rig
        .join(&[
            variable("LD_PRELOAD", &library),
            variable("FAKETIME_TIMESTAMP_FILE", &clock),
            variable("FAKETIME_NO_CACHE", Path::new("1")),
            variable("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        ])
        .await?;
    rig.wait_working(faked).await?;
    for (offset, days) in [("+40d", 40.0), ("-40d", -40.0)] {
        set(&clock, offset)?;
        // What it tells of its last settled record shows that its clock has moved.
        until("the worker's clock has moved", async || {
            let ahead = last_settled(&rig, faked).await? - SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
            ensure!((ahead / DAY - days).abs() < 1.0, "it is {:.1} days ahead", ahead / DAY);
            Ok(())
        })
        .await?;
        rig.changes(SOME).await?;
    }
    set(&clock, "+0")?;
    rig.healed();
    // librdkafka's threads wait by the wall clock: after it was set back, closing a producer may last until it has caught up.
    rig.members.get_mut(faked).context("there is no such worker")?.may_hang = true;
    rig.judge().await
}

fn set(clock: &Path, offset: &str) -> Result<()> {
    std::fs::write(clock, format!("{offset}\n")).with_context(|| format!("write {}", clock.display()))
}

fn library() -> Result<PathBuf> {
    let candidates = FOLDERS.map(|folder| PathBuf::from(folder).join("faketime/libfaketimeMT.so.1"));
    candidates.into_iter().find(|file| file.exists()).context("libfaketime is not installed: install the package faketime")
}

/// When the worker, by its own clock, settled its latest record; seconds since the Unix epoch.
async fn last_settled(rig: &Rig<'_>, index: usize) -> Result<f64> {
    let metrics = rig.member(index)?.metrics().await?;
    metrics.greatest("streamsync_last_settled_timestamp_seconds").context("it has settled nothing")
}
