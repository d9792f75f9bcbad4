//! BSON as bytes: commands are written and replies are read without building values, because documents come encoded from `plan`
//! and are only spliced in. The format is that of bsonspec.org 1.1.

use mongodb::bson::RawDocumentBuf;

/// Element type bytes that are used by name here.
pub(super) mod kind {
    pub(in crate::sink::mongodb) const DOUBLE: u8 = 0x01;
    pub(in crate::sink::mongodb) const TEXT: u8 = 0x02;
    pub(in crate::sink::mongodb) const DOCUMENT: u8 = 0x03;
    pub(in crate::sink::mongodb) const ARRAY: u8 = 0x04;
    pub(in crate::sink::mongodb) const BINARY: u8 = 0x05;
    pub(in crate::sink::mongodb) const BOOLEAN: u8 = 0x08;
    pub(in crate::sink::mongodb) const DATE: u8 = 0x09;
    pub(in crate::sink::mongodb) const NULL: u8 = 0x0a;
    pub(in crate::sink::mongodb) const INT32: u8 = 0x10;
    pub(in crate::sink::mongodb) const INT64: u8 = 0x12;
}

/// A value with its type, as an element of a document has it behind its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) kind: u8,
    pub(super) bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// A value as `plan` writes keys: its type byte before it.
    pub(super) fn from_tagged(tagged: &'a [u8]) -> Option<Self> {
        let (&kind, bytes) = tagged.split_first()?;
        (value_len(kind, bytes)? == bytes.len()).then_some(Self { kind, bytes })
    }

    /// A whole number, whatever numeric type it has: other programs may have rewritten it.
    pub(super) fn as_i64(self) -> Option<i64> {
        match self.kind {
            kind::INT64 => Some(i64::from_le_bytes(self.bytes.try_into().ok()?)),
            kind::INT32 => Some(i64::from(i32::from_le_bytes(self.bytes.try_into().ok()?))),
            kind::DOUBLE => {
                let number = f64::from_le_bytes(self.bytes.try_into().ok()?);
                // The conversion back shows whether anything was lost; it saturates, so no number is out of range.
                (number as i64 as f64 == number && number.abs() < 9.2e18).then_some(number as i64)
            }
            _ => None,
        }
    }

    pub(super) fn as_text(self) -> Option<&'a str> {
        let text = self.bytes.get(4..self.bytes.len().checked_sub(1)?)?;
        (self.kind == kind::TEXT).then(|| std::str::from_utf8(text).ok()).flatten()
    }

    pub(super) fn as_date_ms(self) -> Option<i64> {
        (self.kind == kind::DATE).then(|| self.bytes.try_into().ok().map(i64::from_le_bytes)).flatten()
    }

    /// The elements of a document or an array.
    pub(super) fn elements(self) -> Elements<'a> {
        if self.kind == kind::DOCUMENT || self.kind == kind::ARRAY { Elements::of(self.bytes) } else { Elements { rest: &[] } }
    }
}

/// Elements of a document, in order. Ends early where the bytes are no BSON.
#[derive(Clone, Debug)]
pub(super) struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Of a whole document, its length before it.
    pub(super) fn of(document: &'a [u8]) -> Self {
        Self { rest: document.get(4..).unwrap_or_default() }
    }

    /// The first value of this name.
    pub(super) fn find(mut self, name: &str) -> Option<Value<'a>> {
        self.find_map(|(found, value)| (found == name.as_bytes()).then_some(value))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, rest) = self.rest.split_first()?;
        if kind == 0 {
            return None;
        }
        let name_len = rest.iter().position(|&byte| byte == 0)?;
        let (name, rest) = (rest.get(..name_len)?, rest.get(name_len + 1..)?);
        let (bytes, rest) = rest.split_at_checked(value_len(kind, rest)?)?;
        self.rest = rest;
        Some((name, Value { kind, bytes }))
    }
}

/// Bytes that a value of this type takes at the beginning of `bytes`; `None` where it is no BSON or reaches beyond them.
fn value_len(kind: u8, bytes: &[u8]) -> Option<usize> {
    let prefix = || -> Option<usize> { i32::from_le_bytes(bytes.get(..4)?.try_into().ok()?).try_into().ok() };
    let cstring = |from: usize| -> Option<usize> { Some(from + bytes.get(from..)?.iter().position(|&byte| byte == 0)? + 1) };
    let len = match kind {
        0x06 | kind::NULL | 0x7f | 0xff => 0,
        kind::BOOLEAN => 1,
        kind::INT32 => 4,
        kind::DOUBLE | kind::DATE | 0x11 | kind::INT64 => 8,
        0x07 => 12,
        0x13 => 16,
        kind::TEXT | 0x0d | 0x0e => 4 + prefix()?,
        kind::DOCUMENT | kind::ARRAY | 0x0f => prefix()?,
        kind::BINARY => 5 + prefix()?,
        0x0c => 16 + prefix()?,
        0x0b => cstring(cstring(0)?)?,
        _ => return None,
    };
    (len <= bytes.len()).then_some(len)
}

/// Writes one document.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    open: Vec<usize>,
}

impl Writer {
    /// Begins the document.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut writer = Self { bytes: Vec::with_capacity(bytes), open: Vec::with_capacity(8) };
        writer.open();
        writer
    }

    fn open(&mut self) {
        self.open.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
    }

    fn element(&mut self, kind: u8, name: &str) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
    }

    /// Begins a nested document.
    pub(super) fn begin(&mut self, name: &str) {
        self.element(kind::DOCUMENT, name);
        self.open();
    }

    /// Begins an array; its elements' names are their numbers.
    pub(super) fn begin_array(&mut self, name: &str) {
        self.element(kind::ARRAY, name);
        self.open();
    }

    /// Ends the innermost document or array.
    pub(super) fn end(&mut self) {
        self.bytes.push(0);
        if let Some(start) = self.open.pop() {
            let len = i32::try_from(self.bytes.len() - start).unwrap_or(i32::MAX);
            if let Some(place) = self.bytes.get_mut(start..start + 4) {
                place.copy_from_slice(&len.to_le_bytes());
            }
        }
    }

    pub(super) fn value(&mut self, name: &str, value: Value<'_>) {
        self.element(value.kind, name);
        self.bytes.extend_from_slice(value.bytes);
    }

    /// A whole encoded document.
    pub(super) fn document(&mut self, name: &str, document: &[u8]) {
        self.value(name, Value { kind: kind::DOCUMENT, bytes: document });
    }

    pub(super) fn null(&mut self, name: &str) {
        self.element(kind::NULL, name);
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        self.value(name, Value { kind: kind::BOOLEAN, bytes: &[u8::from(value)] });
    }

    pub(super) fn i32(&mut self, name: &str, value: i32) {
        self.value(name, Value { kind: kind::INT32, bytes: &value.to_le_bytes() });
    }

    pub(super) fn i64(&mut self, name: &str, value: i64) {
        self.value(name, Value { kind: kind::INT64, bytes: &value.to_le_bytes() });
    }

    pub(super) fn date_ms(&mut self, name: &str, ms: i64) {
        self.value(name, Value { kind: kind::DATE, bytes: &ms.to_le_bytes() });
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.element(kind::TEXT, name);
        self.length(text.len() + 1);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn length(&mut self, len: usize) {
        self.bytes.extend_from_slice(&i32::try_from(len).unwrap_or(i32::MAX).to_le_bytes());
    }

    /// Ends whatever is open.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        while !self.open.is_empty() {
            self.end();
        }
        self.bytes
    }

    /// The same for the driver, which checks the length.
    pub(super) fn finish(self) -> mongodb::error::Result<RawDocumentBuf> {
        Ok(RawDocumentBuf::from_bytes(self.into_bytes())?)
    }
}
