//! The names of a core module's exports. Some languages export nothing but identifiers, without the colons, slashes and `#` of the contract's
//! full names: they export `apply` and `cabi_post_apply`, and get the full ones here.

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{ExportSection, Module};
use wasmparser::{Export, Parser, Payload};
use wit_parser::{Resolve, WorldId, WorldItem};

/// The module with full names for its short ones. One that has any full name is left as it is: what else it exports is its own affair.
pub(super) fn in_full(module: Vec<u8>, resolve: &Resolve, world: WorldId) -> Result<Vec<u8>, String> {
    let full = full_names(resolve, world);
    let exported = exports(&module).map_err(|error| error.to_string())?;
    if !exported.iter().any(|name| full.contains_key(name)) || full.values().any(|full| exported.contains(full)) {
        return Ok(module);
    }
    let mut renamed = Module::new();
    Renaming(full).parse_core_module(&mut renamed, Parser::new(0), &module).map_err(|error| format!("{error:?}"))?;
    Ok(renamed.finish())
}

/// The full name of each short one, of all functions that the world exports.
fn full_names(resolve: &Resolve, world: WorldId) -> HashMap<String, String> {
    let mut full = HashMap::new();
    for (key, item) in resolve.worlds.get(world).into_iter().flat_map(|world| &world.exports) {
        let WorldItem::Interface { id, .. } = item else { continue };
        let interface = resolve.name_world_key(key);
        for function in resolve.interfaces.get(*id).into_iter().flat_map(|interface| interface.functions.keys()) {
            full.insert(function.clone(), format!("{interface}#{function}"));
            full.insert(format!("cabi_post_{function}"), format!("cabi_post_{interface}#{function}"));
        }
    }
    full
}

fn exports(module: &[u8]) -> Result<Vec<String>, wasmparser::BinaryReaderError> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(section) = payload? {
            for export in section {
                names.push(export?.name.to_owned());
            }
        }
    }
    Ok(names)
}

struct Renaming(HashMap<String, String>);

impl Reencode for Renaming {
    type Error = Infallible;

    fn parse_export(&mut self, exports: &mut ExportSection, export: Export<'_>) -> Result<(), Error> {
        let full = self.0.get(export.name).cloned();
        utils::parse_export(self, exports, Export { name: full.as_deref().unwrap_or(export.name), ..export })
    }
}
