//! What wasmtime generates of `wit/transform.wit`.
#![allow(missing_docs, unreachable_pub, reason = "generated; wit/transform.wit describes each item")]

wasmtime::component::bindgen!({ path: "../wit", world: "transformer" });
