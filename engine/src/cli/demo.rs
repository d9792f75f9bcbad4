//! `streamsync demo`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Exit, say_error};
use crate::demo::{self, Options};

#[derive(Args, Clone, Debug)]
pub(super) struct DemoArguments {
    /// Where customers.wasm, orders.wasm and shipping_info.wasm are.
    #[arg(long, default_value = "target/guests", value_name = "DIR")]
    modules: PathBuf,
    /// End after so many changes. Without it, Ctrl-C ends the shop, and a second Ctrl-C the demo.
    #[arg(long, value_name = "N")]
    changes: Option<u64>,
    /// Changes a second.
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Write to this Redis instead of memory, under a prefix of the run's own that is removed afterwards.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Write to this MongoDB instead of memory, into a database of the run's own that is removed afterwards.
    #[arg(long, value_name = "URL")]
    mongodb: Option<String>,
    /// Where metrics and the status page are.
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Starts the shop's chance: the same number, the same changes.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

/// Runs the demo until it ends by itself or a signal ends it.
pub(super) async fn demo(arguments: DemoArguments) -> Exit {
    let DemoArguments { modules, changes, rate, redis, mongodb, listen, seed } = arguments;
    let signals = match super::run::Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            say_error(&format!("signals can't be received: {error}"));
            return Exit::No;
        }
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let options = Options { modules, changes, rate, redis, mongodb, listen, seed };
    let result = tokio::select! {
        biased;
        exit = super::run::supervise(signals, &stop) => return exit,
        result = demo::run(options, std::io::stdout(), super::run::wait_for(stopped)) => result,
    };
    match result {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::No,
        Err(error) => {
            say_error(&error.to_string());
            Exit::No
        }
    }
}
