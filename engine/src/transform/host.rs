//! The process's one wasmtime engine, and the way from a file to a [`Module`].

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::bindings::{Transformer, TransformerPre};
use super::cache::Cache;
use super::contract::Contract;
use super::instance::Instance;
use super::limits::{Limits, MAX_TABLE_ELEMENTS};
use super::module::{Budget, Module};
use super::registry::{PullError, Registries};
use super::signature;
use crate::config::{ModuleSource, OciReference, TransformHostSettings, TransformSettings};

/// How often deadlines are looked at.
pub(super) const EPOCH: Duration = Duration::from_millis(1);
/// Epochs that are made up for at once. More are not the guests' time: the process was stopped, or the machine asleep.
const MAX_EPOCHS_LATE: u128 = 16;
/// No component is larger; one with a Python runtime has 20 MB.
pub(super) const MAX_MODULE_BYTES: u64 = 256 << 20;
/// What a guest may import: the contract's own interfaces. `types` has no functions.
const IMPORTS: [&str; 3] = ["streamsync:transform/types", "streamsync:transform/log", "streamsync:transform/metrics"];
/// Core instances of one component; one with a Python runtime and its WASI stubs has more than 64.
const CORE_INSTANCES: u32 = 400;
const MEMORIES: u32 = 8;
const TABLES: u32 = 64;
const TABLES_OF_A_MODULE: u32 = 8;
const INSTANCE_BYTES: usize = 4 << 20;
/// A linear memory's address space; the settings' own limit is far lower, and pages are taken only as they are touched.
const MEMORY_BYTES: usize = 4 << 30;
/// Two lanes' old and new instances may overlap for a moment, and each `load` makes one.
const SPARE_INSTANCES: u32 = 4;

/// Why a guest can't be used at all: the route does not start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The engine itself.
    #[error(
        "wasmtime can't be set up for {instances} instances: {message}; lower transforms.max_instances, or raise the limit of address space"
    )]
    Engine {
        /// Instances asked for.
        instances: u32,
        /// What wasmtime said.
        message: String,
    },
    /// The file.
    #[error("module {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file's content.
    #[error("module {path}: {what}")]
    NotAComponent {
        /// The file.
        path: String,
        /// What it is instead, and the remedy.
        what: String,
    },
    /// Another file than the pinned one.
    #[error(
        "module {path} has SHA-256 {found}, the configuration pins {pinned}: put the pinned file there, or pin this one after you have reviewed it"
    )]
    OtherDigest {
        /// The file.
        path: String,
        /// Its digest.
        found: String,
        /// The configured digest.
        pinned: String,
    },
    /// It is in a registry, and does not come from there.
    #[error("module {reference}: {source}")]
    NotPulled {
        /// The reference.
        reference: String,
        /// What the registry did, and the remedy.
        source: Box<PullError>,
    },
    /// It is not signed by whom the configuration trusts.
    #[error("module {path} is not accepted: {why}")]
    Unsigned {
        /// The file.
        path: String,
        /// What is wrong with its signature, and the remedy.
        why: String,
    },
    /// It wants what no guest gets.
    #[error(
        "module {path} imports {imports}: a transform may import nothing but log and metrics of streamsync:transform@0.1.0; build it without WASI"
    )]
    ForeignImports {
        /// The file.
        path: String,
        /// Their names.
        imports: String,
    },
    /// It is made for a version of the contract that this engine does not have.
    #[error(
        "module {path} is made for version {found} of streamsync:transform, this engine runs {known}: build it with the SDK of this engine \
         (`streamsync transform new` writes it), or run a newer engine"
    )]
    OtherContract {
        /// The file.
        path: String,
        /// The module's version.
        found: String,
        /// The engine's versions.
        known: String,
    },
    /// It is a component of another world.
    #[error("module {path} does not fit streamsync:transform@0.1.0: {message}")]
    OtherWorld {
        /// The file.
        path: String,
        /// What wasmtime said.
        message: String,
    },
    /// It failed before the first event.
    #[error("transform {module}{} can't be started: {source}", of_route(.route))]
    Start {
        /// The module's name, or its file.
        module: String,
        /// The route's name; empty while the module is only inspected.
        route: String,
        /// What the guest said or did.
        source: super::Error,
    },
}

fn of_route(route: &str) -> String {
    if route.is_empty() { String::new() } else { format!(" of route {route}") }
}

impl SetupError {
    /// Whether it is a registry that did not answer, which says nothing of the module.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::NotPulled { source, .. } if matches!(**source, PullError::Away { .. } | PullError::Late { .. }))
    }
}

impl SetupError {
    /// Whether the same module may be started as soon as another instance ends.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Start { source: super::Error::NoPlace { .. }, .. })
    }

    /// For whoever looks at a status page: without the guest's own words, which may hold what its configuration hides. The log has them.
    pub fn in_public(&self) -> String {
        if let Self::Start { module, route, source } = self
            && source.has_words()
        {
            return format!("transform {module} of route {route} can't be started: {} (the log has the guest's words)", source.code());
        }
        self.to_string()
    }
}

/// Loads modules. A clone is the same host, with the same pool of instances.
#[derive(Clone)]
pub struct TransformHost(Arc<Host>);

struct Host {
    engine: Engine,
    linker: Linker<Limits>,
    cache: Option<Cache>,
    registries: Registries,
    metered: bool,
}

impl TransformHost {
    /// The host of this process. A cache that can't be trusted is not used, and the log says so.
    pub fn new(settings: &TransformHostSettings) -> Result<Self, SetupError> {
        Self::with(settings, false)
    }

    /// A host that counts what its guests execute, and is slower for it: [`GuestStats::fuel`](super::GuestStats::fuel).
    pub fn metered(settings: &TransformHostSettings) -> Result<Self, SetupError> {
        Self::with(settings, true)
    }

    fn with(settings: &TransformHostSettings, metered: bool) -> Result<Self, SetupError> {
        let refuse = |message: String| SetupError::Engine { instances: settings.max_instances, message };
        let mut config = config(settings.max_instances);
        config.consume_fuel(metered);
        let engine = Engine::new(&config).map_err(|error| refuse(error.to_string()))?;
        start_ticker(&engine).map_err(|error| refuse(error.to_string()))?;
        let mut linker = Linker::new(&engine);
        Transformer::add_to_linker::<_, HasSelf<_>>(&mut linker, |limits| limits).map_err(|error| refuse(error.to_string()))?;
        let cache = settings.cache_dir.as_deref().and_then(|dir| {
            Cache::open(dir)
                .inspect_err(|error| tracing::warn!(dir = %dir.display(), %error, "compiled modules are not kept: the cache directory can't be used"))
                .ok()
        });
        let kept_below = settings.cache_dir.as_deref().filter(|_| cache.is_some());
        let registries = Registries::new(&settings.pulls, kept_below);
        Ok(Self(Arc::new(Host { engine, linker, cache, registries, metered })))
    }

    /// Reads, checks and compiles a module. Compiling takes seconds for a scripting language's runtime; not for an async thread.
    pub fn load(&self, settings: &TransformSettings) -> Result<Arc<Module>, SetupError> {
        let path = settings.module.to_string();
        let bytes = match &settings.module {
            ModuleSource::File(file) => read(file).map_err(|source| SetupError::Unreadable { path: path.clone(), source })?,
            ModuleSource::Oci(reference) => self.0.registries.open(reference).map_err(|source| not_pulled(reference, source))?,
        };
        check_kind(&bytes).map_err(|what| SetupError::NotAComponent { path: path.clone(), what: what.to_owned() })?;
        let digest = sha256(&bytes);
        if let Some(pinned) = settings.sha256.as_ref().filter(|pinned| !pinned.eq_ignore_ascii_case(&digest)) {
            return Err(SetupError::OtherDigest { path, found: digest, pinned: pinned.clone() });
        }
        if let Some(key) = &settings.signature_key {
            match &settings.module {
                ModuleSource::File(file) => check_signature(&bytes, file, key)?,
                ModuleSource::Oci(reference) => {
                    let key_pem = read_key(key).map_err(|why| SetupError::Unsigned { path: path.clone(), why })?;
                    self.0.registries.check_signature(reference, &key_pem).map_err(|source| not_pulled(reference, source))?;
                }
            }
        }
        let Host { engine, linker, .. } = &*self.0;
        let component = self.0.compile(&bytes, &digest, &path)?;
        check_imports(&component, engine, &path)?;
        let contract = contract_of(&component, engine, &path)?;
        let other_world = |error: wasmtime::Error| SetupError::OtherWorld { path: path.clone(), message: format!("{error:#}") };
        let component = match contract {
            Contract::V0_1_0 => linker.instantiate_pre(&component).and_then(TransformerPre::new).map_err(other_world)?,
        };
        let budget = Budget { metered: self.0.metered, ..Budget::new(settings) };
        let description = Instance::of(engine, &component, budget)
            .and_then(|mut instance| instance.describe())
            .map_err(|source| SetupError::Start { module: path.clone(), route: String::new(), source })?;
        let (name, version) = (super::instance::shown(description.name), super::instance::shown(description.version));
        let config_schema = description.config_schema;
        let contract = contract.version();
        Ok(Arc::new(Module { digest, name, version, contract, config_schema, host: self.clone(), component, budget }))
    }

    /// Whether [`Self::load`] needs no registry for it.
    pub fn is_at_hand(&self, settings: &TransformSettings) -> bool {
        match &settings.module {
            ModuleSource::File(_) => true,
            ModuleSource::Oci(reference) => self.0.registries.has(reference),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0.engine
    }
}

impl Host {
    fn compile(&self, bytes: &[u8], digest: &str, path: &str) -> Result<Component, SetupError> {
        if let Some(component) = self.cache.as_ref().and_then(|cache| cache.load(&self.engine, digest)) {
            return Ok(component);
        }
        let refuse =
            |error: wasmtime::Error| SetupError::NotAComponent { path: path.to_owned(), what: format!("it does not compile: {error:#}") };
        let component = Component::from_binary(&self.engine, bytes).map_err(refuse)?;
        if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.store(&self.engine, digest, &component)) {
            tracing::warn!(module = path, %error, "the compiled module could not be kept: the next start compiles it again");
        }
        Ok(component)
    }
}

fn config(max_instances: u32) -> Config {
    let instances = max_instances.saturating_add(SPARE_INSTANCES);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
        .total_memories(instances.saturating_mul(2).max(MEMORIES))
        .total_tables(instances.saturating_mul(16).max(TABLES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES_OF_A_MODULE)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_memory_size(MEMORY_BYTES)
        .table_elements(MAX_TABLE_ELEMENTS);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        // A call costs 300 ns without it and 800 ns with it, and the contract has nothing asynchronous.
        .concurrency_support(false);
    config
}

/// Ends by itself when the last user of the engine is gone.
fn start_ticker(engine: &Engine) -> std::io::Result<()> {
    let weak = engine.weak();
    let tick = move || {
        let mut last = Instant::now();
        while let Some(engine) = weak.upgrade() {
            // It is late where the processors are busy, and a guest's deadline would be later by as much.
            let passed = last.elapsed().as_millis() / EPOCH.as_millis();
            last = Instant::now();
            (0..passed.clamp(1, MAX_EPOCHS_LATE)).for_each(|_| engine.increment_epoch());
            drop(engine);
            std::thread::sleep(EPOCH);
        }
    };
    std::thread::Builder::new().name("guest-epochs".into()).spawn(tick).map(drop)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    // As much as it will take: a buffer that grows is copied each time.
    let mut bytes = Vec::with_capacity(file.metadata()?.len().min(MAX_MODULE_BYTES) as usize + 1);
    file.take(MAX_MODULE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_MODULE_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {MAX_MODULE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Of the module's bytes, so that a signature stays good wherever the file lies.
fn check_signature(bytes: &[u8], module: &Path, key: &Path) -> Result<(), SetupError> {
    let file = signature_file(module);
    let text = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{} can't be read: {error}", path.display()));
    let verified = read_key(key).and_then(|key| Ok((key, text(&file)?)));
    let verified = verified.and_then(|(key, signature)| signature::verify(&key, bytes, &signature).map_err(str::to_owned));
    verified.map_err(|why| {
        let (path, file, key) = (module.display().to_string(), file.display(), key.display());
        let remedy = format!("make {file} with `cosign sign-blob` and the private key that belongs to {key}");
        SetupError::Unsigned { path, why: format!("{why}; {remedy}") }
    })
}

fn read_key(key: &Path) -> Result<String, String> {
    std::fs::read_to_string(key).map_err(|error| format!("{} can't be read: {error}", key.display()))
}

fn not_pulled(reference: &OciReference, source: PullError) -> SetupError {
    SetupError::NotPulled { reference: reference.to_string(), source: Box::new(source) }
}

/// Beside the module.
pub(crate) fn signature_file(module: &Path) -> PathBuf {
    let mut name = module.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// What a file is instead of a component, by its first bytes.
pub(crate) fn check_kind(bytes: &[u8]) -> Result<(), &'static str> {
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err("it is a core WebAssembly module: make a component of it, with `wasm-tools component new` or the tool of your language")
        }
        [0, b'a', b's', b'm', ..] => Err("it is WebAssembly of another version than this host knows"),
        [0x7f, b'E', b'L', b'F', ..] => Err("it is compiled machine code, which is never loaded: give the WebAssembly component itself"),
        [] => Err("it is empty"),
        _ => Err("it is no WebAssembly component"),
    }
}

fn contract_of(component: &Component, engine: &Engine, path: &str) -> Result<Contract, SetupError> {
    let component_type = component.component_type();
    let exports = component_type.exports(engine).map(|(name, _)| name);
    Contract::of(exports, component_type.imports(engine).map(|(name, _)| name), path)
}

fn check_imports(component: &Component, engine: &Engine, path: &str) -> Result<(), SetupError> {
    let foreign: Vec<String> = component
        .component_type()
        .imports(engine)
        .map(|(name, _)| name.to_owned())
        // Of which version they are is looked at with the export.
        .filter(|name| !name.split_once('@').is_some_and(|(interface, _)| IMPORTS.contains(&interface)))
        .collect();
    if foreign.is_empty() { Ok(()) } else { Err(SetupError::ForeignImports { path: path.to_owned(), imports: foreign.join(", ") }) }
}

/// The digest that pins a module, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
