//! What the suite stands on: the real systems in containers, workers as processes of their own, and a checker that reads MySQL,
//! Redis and MongoDB by itself and knows nothing of the engine's code.
#![expect(clippy::wildcard_enum_match_arm, reason = "the judge names the values that it knows; any other one is a difference")]

pub mod away;
pub mod case;
pub mod cell;
pub mod checker;
pub mod deadline;
pub mod failpoint;
pub mod fence;
pub mod metrics;
pub mod proxy;
pub mod reader;
pub mod shop;
pub mod stack;
pub mod store;
pub mod stores;
pub mod tables;
pub mod topics;
pub mod versions;
pub mod web;
pub mod worker;
