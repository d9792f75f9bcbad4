//! Debian's packages: those that a command needs are installed, where it may do that.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::progress::{ASK_LIMIT, capture, say};

const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// Whether packages can be installed: by root, on Debian.
pub(crate) fn may_install() -> bool {
    let root = capture("id", Command::new("id").arg("-u"), ASK_LIMIT).is_ok_and(|id| id.trim() == "0");
    root && Path::new("/usr/bin/apt-get").exists()
}

/// Installs the packages that are missing.
///
/// # Errors
/// They can't be had, or this is not root on Debian; the message names them.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !may_install() {
        let missing = missing.join(" ");
        bail!("these packages are missing, and this command installs them only as root on Debian: {missing}. Install them and run again");
    }
    say(format_args!("apt-get install {}", missing.join(" ")));
    capture("apt-get update", Command::new("apt-get").args(["update", "-qq"]), INSTALL_LIMIT)?;
    // RUNLEVEL=1 keeps the packages' own service scripts from starting anything: this command does that itself.
    let mut apt = Command::new("apt-get");
    apt.env("RUNLEVEL", "1").env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
    capture("apt-get install", &mut apt, INSTALL_LIMIT)?;
    Ok(())
}

fn installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${Status}", package]);
    capture("dpkg-query", &mut query, ASK_LIMIT).is_ok_and(|status| status.contains("ok installed"))
}
