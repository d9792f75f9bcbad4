//! The scripts, one atomic run a key, and the commands that run them.

use redis::{Cmd, RedisWrite as _};

use super::version;
use crate::config::{Place, RedisForm};
use crate::fence::{FENCE_DIGITS, Fence};
use crate::plan::{FencedWrite, SinkWrites};

/// All scripts, with their digests.
pub(super) struct Scripts {
    put_string: Script,
    put_hash: Script,
    put_json: Script,
    delete: Script,
    mark: Script,
    identity: Script,
    watermark: Script,
    sweep: Script,
}

/// What is done to the key of a write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Put or delete its document.
    Write,
    /// Mark its version.
    Mark,
}

struct Script {
    code: String,
    digest: String,
}

impl Script {
    fn new(code: String) -> Self {
        Self { digest: redis::Script::new(&code).get_hash().to_owned(), code }
    }
}

/// How a script is named to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// EVALSHA: short, for a server that has the script.
    Digest,
    /// EVAL: loads the script where the server does not have it.
    Text,
}

/// Buffers that are used again for each command.
#[derive(Default)]
pub(super) struct Scratch {
    companion: Vec<u8>,
    version: Vec<u8>,
    number: itoa::Buffer,
}

impl Scripts {
    pub(super) fn new() -> Self {
        const DECIDE: &str = include_str!("decide.lua");
        let script = |body: &str| Script::new(format!("{DECIDE}{body}"));
        Self {
            put_string: script(include_str!("put_string.lua")),
            put_hash: script(include_str!("put_hash.lua")),
            put_json: script(include_str!("put_json.lua")),
            delete: script(include_str!("delete.lua")),
            mark: Script::new(include_str!("mark.lua").to_owned()),
            identity: Script::new(include_str!("identity.lua").to_owned()),
            watermark: Script::new(include_str!("watermark.lua").to_owned()),
            sweep: Script::new(include_str!("sweep.lua").to_owned()),
        }
    }

    /// The command that does a write. `None` where the batch contradicts itself: no such target, or a hash that is cut short.
    pub(super) fn command(
        &self,
        by: By,
        writes: &SinkWrites,
        write: &FencedWrite,
        tombstone_seconds: u64,
        scratch: &mut Scratch,
    ) -> Option<Cmd> {
        let Place::Redis { form, .. } = writes.targets.get(write.target as usize)?.place else { return None };
        let document = write.document.map(|document| writes.slice(document));
        let script = match (document, form) {
            (None, _) => &self.delete,
            (Some(_), RedisForm::String) => &self.put_string,
            (Some(_), RedisForm::Hash) => &self.put_hash,
            (Some(_), RedisForm::Json) => &self.put_json,
        };
        let key = writes.slice(write.key);
        version::write_key(&mut scratch.companion, key);
        version::write(&mut scratch.version, writes, write);
        let mut command = head(script, by, 2, 10, 192 + 2 * key.len() + document.map_or(0, <[u8]>::len));
        command.write_arg(key);
        command.write_arg(&scratch.companion);
        command.write_arg(&scratch.version);
        command.write_arg(&first_of_generation(write));
        let Some(document) = document else {
            command.write_arg(scratch.number.format(tombstone_seconds).as_bytes());
            return Some(command);
        };
        // The version outlives an expired document as long as a tombstone outlives a delete.
        let ttl = u64::from(write.ttl_seconds);
        let version_ttl = ttl + tombstone_seconds;
        match form {
            RedisForm::String | RedisForm::Json => {
                command.write_arg(document);
                if ttl > 0 {
                    command.write_arg(scratch.number.format(ttl).as_bytes());
                    command.write_arg(scratch.number.format(version_ttl).as_bytes());
                }
            }
            RedisForm::Hash => {
                command.write_arg(scratch.number.format(ttl).as_bytes());
                command.write_arg(scratch.number.format(version_ttl).as_bytes());
                write_fields(&mut command, document)?;
            }
        }
        Some(command)
    }

    /// The command that marks the key of a write.
    pub(super) fn mark(&self, by: By, marks: &SinkWrites, mark: &FencedWrite, scratch: &mut Scratch) -> Cmd {
        version::write_key(&mut scratch.companion, marks.slice(mark.key));
        let mut command = head(&self.mark, by, 1, 7, 160 + scratch.companion.len());
        command.write_arg(&scratch.companion);
        command.write_arg(&mark.fence.digits());
        command.write_arg(&first_of_generation(mark));
        command.write_arg(scratch.number.format(marks.partition).as_bytes());
        command
    }

    /// The command that stores an identity.
    pub(super) fn store_identity(&self, key: &str, json: &[u8], generation: u16) -> Cmd {
        let mut command = head(&self.identity, By::Text, 1, 6, 1024);
        command.arg(key).arg(json).arg(generation);
        command
    }

    /// The command that stores a watermark in the place of one of `replaced`; an empty one stands for nothing.
    pub(super) fn store_watermark(&self, key: &str, text: &str, replaced: &[String]) -> Cmd {
        let mut command = head(&self.watermark, By::Text, 1, 4 + replaced.len(), 512);
        command.arg(key).arg(text).arg(replaced);
        command
    }

    /// The command that removes a document which was last written before `fence`.
    pub(super) fn sweep(&self, key: &[u8], fence: Fence, tombstone: Fence, tombstone_seconds: u64) -> Cmd {
        let mut companion = Vec::new();
        version::write_key(&mut companion, key);
        let mut command = head(&self.sweep, By::Text, 2, 7, 512 + 2 * key.len());
        command.arg(key).arg(companion).arg(fence.to_string());
        command.arg(format!("{tombstone} d {:016x} {:016x} ", 0, 0)).arg(tombstone_seconds);
        command
    }
}

/// The least fence of the generation of a write.
fn first_of_generation(write: &FencedWrite) -> [u8; FENCE_DIGITS] {
    Fence::first(write.fence.generation()).digits()
}

fn head(script: &Script, by: By, keys: u8, args: usize, bytes: usize) -> Cmd {
    let (name, text) = match by {
        By::Digest => ("EVALSHA", &script.digest),
        By::Text => ("EVAL", &script.code),
    };
    let mut command = Cmd::with_capacity(args, bytes + text.len());
    command.write_arg(name.as_bytes());
    command.write_arg(text.as_bytes());
    command.write_arg(&[b'0' + keys]);
    command
}

/// A hash document is for each field its name and its value, each as u32 length (little-endian) and bytes.
fn write_fields(command: &mut Cmd, mut document: &[u8]) -> Option<()> {
    let mut pieces = 0;
    while !document.is_empty() {
        let (len, rest) = document.split_first_chunk()?;
        let (piece, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        command.write_arg(piece);
        document = rest;
        pieces += 1;
    }
    (pieces % 2 == 0).then_some(())
}
