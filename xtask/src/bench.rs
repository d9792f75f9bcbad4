//! `bench`: what is shipped, built for speed and measured. It takes minutes to build and minutes to run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::docker::{Labelled, engine, host};
use crate::images::{Image, Images};
use crate::progress::{cargo, programs, root, run, say, target_dir};

const ROLES: [&str; 3] = ["kafka", "redis", "mongodb"];

/// Provides images, components and programs, then runs the program `bench`; `stages` are the part of it that needs no images. `beside` is another
/// build of `streamsync`, and then nothing is measured but both.
pub(crate) fn bench(stages: bool, beside: Option<&Path>) -> Result<()> {
    let beside = beside.map(|other| std::fs::canonicalize(other).with_context(|| other.display().to_string())).transpose()?;
    if !stages {
        // Before builds of many minutes.
        engine()?;
    }
    let images = std::thread::spawn(move || -> Result<BTreeMap<String, Image>> {
        if stages { Ok(BTreeMap::new()) } else { Images::read()?.provide(&ROLES) }
    });
    let guests = crate::build_guests()?;
    let mut build = cargo();
    build.args(["build", "--release", "--workspace", "--bin", "streamsync", "--bin", "bench"]);
    run("building streamsync and the benchmark for speed (many minutes the first time)", &mut build)?;
    images.join().unwrap_or_else(|_| bail!("the thread that provides the images panicked")).context("images")?;

    let label = format!("streamsync.bench={}", std::process::id());
    let _removed_at_the_end = Labelled::new(label.clone())?;
    let programs = programs("release");
    let mut bench = std::process::Command::new(programs.join("bench"));
    bench.current_dir(root());
    bench.env("STREAMSYNC_TEST_LABEL", &label);
    bench.env("STREAMSYNC_TEST_IMAGES", target_dir().join("images.json"));
    bench.env("STREAMSYNC_TEST_BINARY", programs.join("streamsync"));
    bench.env("STREAMSYNC_TEST_GUESTS", guests);
    bench.envs(host().map(|host| ("DOCKER_HOST", host)));
    if stages {
        bench.arg("--stages");
    }
    if let Some(other) = beside {
        bench.arg("--beside").arg(other);
    }
    run("measuring; leave the machine alone meanwhile, which is some five minutes for everything", &mut bench)?;
    say("done");
    Ok(())
}
