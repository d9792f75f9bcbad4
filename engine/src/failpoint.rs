//! Places where a test can hold this process, to kill it, freeze it or cut it off exactly there (docs/decisions/0015-failpoints.md).
//!
//! Only builds with debug assertions have them: in a release build [`reached`] is ready at once and looks at nothing. A test names a
//! folder in the variable `FAILPOINTS` and puts a file `<point>.armed` into it. Whoever passes the point next renames it to
//! `<point>.reached`, and goes on when that file is gone.

#[cfg(debug_assertions)]
pub(crate) use held::reached;

/// Nothing ever waits here.
#[cfg(not(debug_assertions))]
pub(crate) fn reached(_point: &'static str, _of: &str) -> std::future::Ready<()> {
    std::future::ready(())
}

#[cfg(debug_assertions)]
mod held {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::time::Duration;

    const PAUSE: Duration = Duration::from_millis(5);
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();

    /// Waits while a test holds this point. `of` tells points of one kind apart, such as those of the sinks; it may be empty.
    pub(crate) async fn reached(point: &'static str, of: &str) {
        if let Some(folder) = FOLDER.get_or_init(|| std::env::var_os("FAILPOINTS").map(PathBuf::from)) {
            hold(folder, point, of).await;
        }
    }

    async fn hold(folder: &Path, point: &'static str, of: &str) {
        let name = if of.is_empty() { point.to_owned() } else { format!("{point}-{of}") };
        let reached = folder.join(format!("{name}.reached"));
        // Renamed by one alone: the lanes that come later find nothing, and pass.
        if std::fs::rename(folder.join(format!("{name}.armed")), &reached).is_err() {
            return;
        }
        tracing::warn!(point = name, "held at a failpoint");
        while reached.exists() {
            tokio::time::sleep(PAUSE).await;
        }
        tracing::warn!(point = name, "let go");
    }

    #[cfg(test)]
    mod tests {
        use super::hold;

        #[tokio::test(start_paused = true)]
        async fn one_is_held_until_the_file_is_gone() -> std::io::Result<()> {
            let folder = tempfile::tempdir()?;
            let reached = folder.path().join("write-redis.reached");
            hold(folder.path(), "write", "redis").await;
            std::fs::write(folder.path().join("write-redis.armed"), "")?;
            let first = hold(folder.path(), "write", "redis");
            tokio::pin!(first);
            let waited = tokio::time::timeout(super::PAUSE * 10, &mut first).await;
            assert!(waited.is_err() && reached.exists(), "an armed point holds whoever comes first");
            hold(folder.path(), "write", "redis").await;
            hold(folder.path(), "write", "mongodb").await;
            std::fs::remove_file(&reached)?;
            first.await;
            Ok(())
        }
    }
}
