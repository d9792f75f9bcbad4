//! Log lines. They leave the transform when the call that wrote them has succeeded. Keep rows' values out of them.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Writes a line for whoever develops the transform.
pub fn debug(message: &str) {
    emit(Level::Debug, message);
}

/// Writes a line.
pub fn info(message: &str) {
    emit(Level::Info, message);
}

/// Writes a line for whoever operates the engine.
pub fn warn(message: &str) {
    emit(Level::Warn, message);
}

/// Writes a line for whoever must act.
pub fn error(message: &str) {
    emit(Level::Error, message);
}

#[cfg(target_family = "wasm")]
fn emit(level: Level, message: &str) {
    use crate::component::streamsync::transform::log;
    let level = match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::emit(level, message);
}

#[cfg(not(target_family = "wasm"))]
fn emit(level: Level, message: &str) {
    crate::testing::record_log(level, message);
}
