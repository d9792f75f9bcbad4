//! A Redis server: the protocol on a stream, strings with a time to live, and the sink's own scripts in a real Lua.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mlua::{Function, Lua, MultiValue, RegistryKey, Value as LuaValue};
use serde_json::Value as Json;
use tokio::time::Instant;

type Bytes = Vec<u8>;

/// What a server answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(&'static str),
    Error(String),
    Int(i64),
    Bulk(Bytes),
    Array(Vec<Reply>),
    Nil,
}

#[derive(Clone, Debug)]
enum Value {
    Text(Bytes),
    Hash(BTreeMap<Bytes, Bytes>),
}

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    expires_at: Option<Instant>,
}

/// What the server holds.
#[derive(Clone, Debug, Default)]
pub struct Data {
    entries: BTreeMap<Bytes, Entry>,
}

/// The server's process.
#[derive(Debug)]
pub struct Redis {
    pub data: Data,
    /// Digests of the scripts that this process was given.
    scripts: BTreeMap<String, String>,
    /// Another one for each process.
    pub run: u64,
}

impl Data {
    fn value(&self, key: &[u8]) -> Option<&Value> {
        self.entries.get(key).filter(|entry| entry.expires_at.is_none_or(|at| at > Instant::now())).map(|entry| &entry.value)
    }

    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            Value::Hash(_) => None,
        }
    }

    /// A document in whichever form.
    pub fn document(&self, key: &[u8]) -> Option<Json> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        Some(match self.value(key)? {
            Value::Text(json) => serde_json::from_slice(json).unwrap_or(Json::Null),
            Value::Hash(fields) => fields.iter().map(|(name, value)| (text(name), Json::from(text(value)))).collect(),
        })
    }

    /// What somebody else writes.
    pub fn put(&mut self, key: &str, value: &Json) {
        self.set(key.as_bytes().to_vec(), value.to_string().into_bytes(), None);
    }

    fn set(&mut self, key: Bytes, value: Bytes, seconds: Option<u64>) {
        let expires_at = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        self.entries.insert(key, Entry { value: Value::Text(value), expires_at });
    }

    /// `None`: the key holds no hash.
    fn set_fields(&mut self, key: &Bytes, fields: &[Bytes]) -> Option<()> {
        let empty = || Entry { value: Value::Hash(BTreeMap::new()), expires_at: None };
        let Value::Hash(hash) = &mut self.entries.entry(key.clone()).or_insert_with(empty).value else { return None };
        hash.extend(fields.chunks_exact(2).filter_map(|pair| Some((pair.first()?.clone(), pair.last()?.clone()))));
        Some(())
    }

    /// All keys of a prefix at once, in the form of a cursor's last page.
    fn scan(&self, pattern: &[u8]) -> Reply {
        let prefix = pattern.strip_suffix(b"*").unwrap_or(pattern);
        let keys = self.entries.keys().filter(|key| key.starts_with(prefix) && self.value(key).is_some());
        Reply::Array(vec![Reply::Bulk(b"0".to_vec()), Reply::Array(keys.cloned().map(Reply::Bulk).collect())])
    }

    /// Keys of documents, without the sink's own.
    pub fn documents(&self) -> impl Iterator<Item = (String, Json)> {
        let keys = self.entries.keys().filter(|key| !key.starts_with(b"_sync:"));
        keys.filter_map(|key| Some((String::from_utf8_lossy(key).into_owned(), self.document(key)?)))
    }
}

impl Redis {
    pub fn new() -> Self {
        Self { data: Data::default(), scripts: BTreeMap::new(), run: 1 }
    }

    /// Another process takes over with this data.
    pub fn replace(&mut self, data: Data) {
        *self = Self { data, scripts: BTreeMap::new(), run: self.run + 1 };
    }

    /// Runs one command.
    pub fn run(&mut self, command: &[Bytes]) -> Reply {
        let Some((name, arguments)) = command.split_first() else { return Reply::Error("ERR empty command".to_owned()) };
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        match (&*name, arguments) {
            ("PING", _) => Reply::Status("PONG"),
            ("CLIENT" | "SELECT", _) => Reply::Status("OK"),
            ("INFO", _) => Reply::Bulk(self.info().into_bytes()),
            ("EVAL", [script, ..]) => {
                let code = String::from_utf8_lossy(script).into_owned();
                let digest = redis::Script::new(&code).get_hash().to_owned();
                self.scripts.insert(digest.clone(), code);
                self.evaluate(&digest, arguments)
            }
            ("EVALSHA", [digest, ..]) => self.evaluate(&String::from_utf8_lossy(digest), arguments),
            ("SCAN", [_, _, pattern, ..]) => self.data.scan(pattern),
            ("FLUSHALL", _) => {
                self.data = Data::default();
                Reply::Status("OK")
            }
            _ => call(&mut self.data, &name, arguments),
        }
    }

    fn info(&self) -> String {
        format!(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:{run:040x}\r\nloading:0\r\nmaxmemory_policy:noeviction\r\ncluster_enabled:0\r\n# \
             Replication\r\nrole:master\r\nmaster_replid:{run:040x}\r\n",
            run = self.run
        )
    }

    fn evaluate(&mut self, digest: &str, arguments: &[Bytes]) -> Reply {
        let Some(code) = self.scripts.get(digest) else { return Reply::Error("NOSCRIPT No matching script. Please use EVAL.".to_owned()) };
        let count: usize = arguments.get(1).and_then(|count| String::from_utf8_lossy(count).parse().ok()).unwrap_or_default();
        let (keys, argv) = arguments.get(2..).unwrap_or_default().split_at_checked(count).unwrap_or_default();
        RUNNER.with(|runner| runner.run(digest, code, keys, argv, &mut self.data))
    }
}

/// The commands that are also known to scripts.
fn call(data: &mut Data, name: &str, arguments: &[Bytes]) -> Reply {
    match (name, arguments) {
        ("GET", [key]) => data.get(key).map_or(Reply::Nil, |value| Reply::Bulk(value.clone())),
        // Both ends as they are: the sink asks for the first letters alone.
        ("GETRANGE", [key, first, last]) => {
            let number = |text: &Bytes| String::from_utf8_lossy(text).parse::<usize>().unwrap_or_default();
            let value = data.get(key).map_or(&[][..], |value| value);
            Reply::Bulk(value.get(number(first)..value.len().min(number(last) + 1)).unwrap_or_default().to_vec())
        }
        ("EXISTS", [key]) => Reply::Int(data.value(key).is_some().into()),
        ("DEL", keys) => Reply::Int(keys.iter().filter(|key| data.entries.remove(*key).is_some()).count() as i64),
        ("SET", [key, value]) => {
            data.set(key.clone(), value.clone(), None);
            Reply::Status("OK")
        }
        ("SET", [key, value, option, seconds]) if option.eq_ignore_ascii_case(b"EX") => {
            data.set(key.clone(), value.clone(), String::from_utf8_lossy(seconds).parse().ok());
            Reply::Status("OK")
        }
        ("HSET", [key, fields @ ..]) => match data.set_fields(key, fields) {
            Some(()) => Reply::Int(fields.len() as i64 / 2),
            None => Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned()),
        },
        ("MSET", pairs) => {
            for pair in pairs.chunks_exact(2) {
                if let [key, value] = pair {
                    data.set(key.clone(), value.clone(), None);
                }
            }
            Reply::Status("OK")
        }
        _ => Reply::Error(format!("ERR unknown command '{name}', or not in this form")),
    }
}

thread_local! {
    static RUNNER: Runner = Runner::new();
    /// What the running script works on.
    static AT_HAND: RefCell<Data> = RefCell::default();
}

/// Lua, and the scripts that were compiled on this thread.
struct Runner {
    lua: Lua,
    compiled: RefCell<HashMap<String, RegistryKey>>,
}

impl Runner {
    fn new() -> Self {
        let lua = Lua::new();
        Self::define(&lua).expect("the functions that Redis gives its scripts");
        Self { lua, compiled: RefCell::default() }
    }

    fn define(lua: &Lua) -> mlua::Result<()> {
        let redis = lua.create_table()?;
        for (name, raises) in [("call", true), ("pcall", false)] {
            let function = lua.create_function(move |lua, arguments: MultiValue| {
                let arguments: Vec<Bytes> = arguments.iter().map(as_bytes).collect();
                let Some((name, arguments)) = arguments.split_first() else { return Ok(LuaValue::Nil) };
                match AT_HAND.with_borrow_mut(|data| call(data, &String::from_utf8_lossy(name), arguments)) {
                    Reply::Error(message) if raises => Err(mlua::Error::runtime(message)),
                    reply => to_lua(lua, reply),
                }
            })?;
            redis.set(name, function)?;
        }
        let error_reply = lua.create_function(|lua, message: mlua::String| {
            let table = lua.create_table()?;
            table.set("err", message)?;
            Ok(table)
        })?;
        redis.set("error_reply", error_reply)?;
        lua.globals().set("redis", redis)?;
        let decode = lua.create_function(|lua, text: mlua::String| {
            let json: Json = serde_json::from_slice(text.as_bytes()).map_err(mlua::Error::external)?;
            let table = lua.create_table()?;
            for (name, value) in json.as_object().into_iter().flatten() {
                match value {
                    Json::Number(number) => table.set(name.as_str(), number.as_f64())?,
                    other => table.set(name.as_str(), other.as_str())?,
                }
            }
            Ok(table)
        })?;
        let cjson = lua.create_table()?;
        cjson.set("decode", decode)?;
        lua.globals().set("cjson", cjson)
    }

    fn run(&self, digest: &str, code: &str, keys: &[Bytes], argv: &[Bytes], data: &mut Data) -> Reply {
        AT_HAND.with_borrow_mut(|at_hand| std::mem::swap(at_hand, data));
        let result = self.call(digest, code, keys, argv);
        AT_HAND.with_borrow_mut(|at_hand| std::mem::swap(at_hand, data));
        result.unwrap_or_else(|error| Reply::Error(format!("ERR {error} script: {digest}")))
    }

    fn call(&self, digest: &str, code: &str, keys: &[Bytes], argv: &[Bytes]) -> mlua::Result<Reply> {
        let mut compiled = self.compiled.borrow_mut();
        if !compiled.contains_key(digest) {
            let script = self.lua.load(code).into_function()?;
            compiled.insert(digest.to_owned(), self.lua.create_registry_value(script)?);
        }
        let Some(script) = compiled.get(digest) else { return Ok(Reply::Nil) };
        for (name, values) in [("KEYS", keys), ("ARGV", argv)] {
            let table = self.lua.create_table_with_capacity(values.len(), 0)?;
            for value in values {
                table.raw_push(self.lua.create_string(value)?)?;
            }
            self.lua.globals().raw_set(name, table)?;
        }
        from_lua(self.lua.registry_value::<Function>(script)?.call::<_, LuaValue>(())?)
    }
}

fn as_bytes(value: &LuaValue<'_>) -> Bytes {
    match value {
        LuaValue::String(text) => text.as_bytes().to_vec(),
        LuaValue::Integer(number) => number.to_string().into_bytes(),
        LuaValue::Number(number) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

/// As Redis converts replies for scripts.
fn to_lua(lua: &Lua, reply: Reply) -> mlua::Result<LuaValue<'_>> {
    Ok(match reply {
        Reply::Nil => LuaValue::Boolean(false),
        Reply::Int(number) => LuaValue::Number(number as f64),
        Reply::Bulk(bytes) => LuaValue::String(lua.create_string(bytes)?),
        Reply::Array(_) => LuaValue::Nil,
        Reply::Status(status) => {
            let table = lua.create_table()?;
            table.set("ok", status)?;
            LuaValue::Table(table)
        }
        Reply::Error(message) => {
            let table = lua.create_table()?;
            table.set("err", message)?;
            LuaValue::Table(table)
        }
    })
}

/// As Redis converts what scripts return.
fn from_lua(value: LuaValue<'_>) -> mlua::Result<Reply> {
    Ok(match value {
        LuaValue::Integer(number) => Reply::Int(number),
        LuaValue::Number(number) => Reply::Int(number as i64),
        LuaValue::String(text) => Reply::Bulk(text.as_bytes().to_vec()),
        LuaValue::Table(table) => match table.get::<_, Option<mlua::String>>("err")? {
            Some(message) => Reply::Error(message.to_string_lossy().into_owned()),
            None => Reply::Status("OK"),
        },
        _ => Reply::Nil,
    })
}

/// Takes whole commands from what has arrived: arrays of bulk strings.
pub fn take_commands(buffer: &mut Bytes) -> Vec<Vec<Bytes>> {
    let mut commands = Vec::new();
    let mut taken = 0;
    while let Some((command, len)) = buffer.get(taken..).and_then(take_command) {
        commands.push(command);
        taken += len;
    }
    buffer.drain(..taken);
    commands
}

fn take_command(bytes: &[u8]) -> Option<(Vec<Bytes>, usize)> {
    let (count, mut at) = take_line(bytes, 0, b'*')?;
    let mut command = Vec::with_capacity(count);
    for _ in 0..count {
        let (len, start) = take_line(bytes, at, b'$')?;
        command.push(bytes.get(start..start + len)?.to_vec());
        at = start + len + 2;
    }
    (at <= bytes.len()).then_some((command, at))
}

/// `*3\r\n`: the number, and where the next begins.
fn take_line(bytes: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|&byte| byte == b'\r')?;
    let number = rest.get(..end)?.strip_prefix(&[mark])?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, at + end + 2))
}

/// Writes a reply as RESP2 has it.
pub fn write_reply(out: &mut Bytes, reply: &Reply) {
    match reply {
        Reply::Status(status) => out.extend_from_slice(format!("+{status}\r\n").as_bytes()),
        Reply::Error(message) => out.extend_from_slice(format!("-{}\r\n", message.replace(['\r', '\n'], " ")).as_bytes()),
        Reply::Int(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
        Reply::Nil => out.extend_from_slice(b"$-1\r\n"),
        Reply::Array(replies) => {
            out.extend_from_slice(format!("*{}\r\n", replies.len()).as_bytes());
            replies.iter().for_each(|reply| write_reply(out, reply));
        }
        Reply::Bulk(bytes) => {
            out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
    }
}
