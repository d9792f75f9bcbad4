//! One instance of a module, and the contract's calls with their limits.

use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use super::Error;
use super::bindings::Transformer;
use super::bindings::exports::streamsync::transform::transform::{Context, Description};
use super::bindings::streamsync::transform::types::{Batch, Outcome, Plan, TableSchema};
use super::host::EPOCH;
use super::limits::{Limits, Said, Slowly};
use super::module::{Budget, Module};

/// What may cross in one call beside the answer itself: log messages, descriptions, errors.
const SPARE_BYTES: usize = 1 << 20;
/// How long a call that goes slowly runs before its first rest: longer than a batch takes in any language.
const BEFORE_REST: Duration = Duration::from_millis(25);

pub(super) struct Instance {
    store: Store<Limits>,
    guest: Transformer,
    budget: Budget,
}

impl Instance {
    /// Instantiates the module; a start function of the guest runs within the call's limits.
    pub(super) fn new(module: &Module) -> Result<Self, Error> {
        Self::of(module.host.engine(), &module.component, module.budget)
    }

    pub(super) fn of(
        engine: &wasmtime::Engine,
        component: &super::bindings::TransformerPre<Limits>,
        budget: Budget,
    ) -> Result<Self, Error> {
        let mut store = Store::new(engine, Limits::new(budget.max_memory_bytes, budget.max_log_lines));
        store.limiter(|limits| limits);
        store.set_hostcall_fuel(budget.max_output_bytes.saturating_add(SPARE_BYTES));
        store.set_epoch_deadline(ticks(budget.call_timeout));
        store.epoch_deadline_callback(|mut context| Ok(context.data_mut().ticks_are_over()));
        if budget.metered {
            let unavailable = |error: wasmtime::Error| Error::Unavailable { message: error.to_string() };
            store.set_fuel(u64::MAX).map_err(unavailable)?;
        }
        match component.instantiate(&mut store) {
            Ok(guest) => Ok(Self { store, guest, budget }),
            // The pool is so large that one instance alone always has a place in it.
            Err(error) if error.is::<PoolConcurrencyLimitError>() => Err(Error::NoPlace { message: error.to_string() }),
            Err(error) => Err(Error::Unavailable { message: said_of(&failure(&error, store.data(), budget)) }),
        }
    }

    pub(super) fn describe(&mut self) -> Result<Description, Error> {
        self.call(false, |guest, store| guest.streamsync_transform_transform().call_describe(store).map(Ok))
    }

    pub(super) fn init(&mut self, context: &Context) -> Result<(), Error> {
        self.call(false, |guest, store| guest.streamsync_transform_transform().call_init(store, context))
    }

    pub(super) fn open(&mut self, schema: &TableSchema) -> Result<Plan, Error> {
        self.call(false, |guest, store| guest.streamsync_transform_transform().call_open(store, schema))
    }

    /// `slowly`: a call that takes long leaves the processor to others for most of its time.
    pub(super) fn apply(&mut self, batch: &Batch, slowly: bool) -> Result<Outcome, Error> {
        self.call(slowly, |guest, store| guest.streamsync_transform_transform().call_apply(store, batch))
    }

    /// What the guest said since this was last asked.
    pub(super) fn take_said(&mut self) -> Said {
        std::mem::take(&mut self.store.data_mut().said)
    }

    /// What the guest executed since this was last asked; 0 where that is not counted.
    pub(super) fn take_fuel(&mut self) -> u64 {
        let used = self.store.get_fuel().map_or(0, |left| u64::MAX - left);
        if used > 0 {
            // It was possible to read it, so it is possible to set it.
            self.store.set_fuel(u64::MAX).ok();
        }
        used
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes
    }

    fn call<T>(
        &mut self,
        slowly: bool,
        call: impl FnOnce(&Transformer, &mut Store<Limits>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, Error> {
        let timeout = self.budget.call_timeout;
        self.store.data_mut().slowly = slowly.then(|| Slowly::begin(timeout));
        self.store.set_epoch_deadline(ticks(if slowly { timeout.min(BEFORE_REST) } else { timeout }));
        match call(&self.guest, &mut self.store) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(message)) => Err(Error::GuestError { message: shown(message) }),
            Err(error) => Err(failure(&error, self.store.data(), self.budget)),
        }
    }
}

/// One more than the timeout has, because the first tick may come at once.
fn ticks(timeout: Duration) -> u64 {
    (timeout.as_millis() / EPOCH.as_millis()).try_into().unwrap_or(u64::MAX / 2).saturating_add(1)
}

fn failure(error: &wasmtime::Error, limits: &Limits, budget: Budget) -> Error {
    if limits.out_of_memory {
        return Error::OutOfMemory { limit_bytes: budget.max_memory_bytes };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Error::TimedOut { timeout_ms: budget.call_timeout.as_millis().try_into().unwrap_or(u64::MAX) },
        Some(trap) => Error::Trapped { message: traced(trap.to_string(), error) },
        None => {
            let message = error.root_cause().to_string();
            // wasmtime has no type for this refusal, only words.
            if message.contains("fuel allocated for hostcalls") {
                return Error::TooLarge { limit_bytes: budget.max_output_bytes };
            }
            Error::Trapped { message: traced(shown(message), error) }
        }
    }
}

/// The message with the guest's innermost functions, as far as its name section tells them. Built with its names, a guest says where it fell;
/// without them the numbers still tell one trap from another.
fn traced(mut message: String, error: &wasmtime::Error) -> String {
    const MAX_FRAMES: usize = 6;
    const MAX_NAME_CHARS: usize = 80;
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    for (index, frame) in frames.iter().take(MAX_FRAMES).enumerate() {
        message.push_str(if index == 0 { " in " } else { " < " });
        match frame.func_name() {
            // `{:#}` leaves the hash of a Rust name away; a name of another language passes as it is.
            Some(name) => {
                message.extend(format!("{:#}", rustc_demangle::demangle(name)).chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS))
            }
            None => message.push_str(&format!("function {}", frame.func_index())),
        }
    }
    if frames.len() > MAX_FRAMES {
        message.push_str(" < …");
    }
    message
}

fn said_of(error: &Error) -> String {
    error.to_string()
}

/// A guest's words, short enough for a header and a log line.
pub(super) fn shown(mut message: String) -> String {
    const MAX_BYTES: usize = 1024;
    message.truncate(message.floor_char_boundary(MAX_BYTES));
    message
}
