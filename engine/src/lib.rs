//! streamsync: MySQL's row changes, written to Kafka by Debezium, arrive in Redis and MongoDB.
//!
//! A record's way, step by step; each step is a module:
//!
//! ```text
//! Kafka -> source -> decode -> route -> transform (WASM) -> plan -> sink (Redis, MongoDB) -> commit
//!                       \______________________ dead_letter ______/
//! ```
//!
//! `lane` joins the stages for one partition and is the only module that calls them; `engine` gives partitions to lanes.
//! ARCHITECTURE.md has the invariants.

// The words of the way.
mod calendar;
pub mod change;
pub mod fence;
pub mod outcome;
pub mod recording;

// The way.
pub mod commit;
pub mod dead_letter;
pub mod decode;
pub mod plan;
pub mod route;
pub mod sink;
pub mod source;
pub mod transform;

// What drives it.
pub mod disposition;
pub mod engine;
pub mod identity;
pub mod lane;
pub mod machine;
pub mod rollout;

// What surrounds it.
pub mod cli;
pub mod config;
pub mod demo;
pub mod http;
pub mod metrics;

// Tests hold the process there; not in a release.
mod failpoint;
