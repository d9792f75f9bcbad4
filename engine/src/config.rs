//! What the operator wants: a TOML file, environment variables over it, secrets from files; read into [`file`]'s mirror,
//! validated into [`settings`]. All faults are reported at once, each with its place and its remedy.

pub mod settings;

pub use settings::*;
