//! JSON text as BSON, without a tree between them, so that a number keeps its digits.
//!
//! Integers up to 64 bits become Int64, longer ones up to 34 digits Decimal128; every other number becomes a double, as it is for
//! every reader of JSON and for MySQL itself. The text was checked to be well-formed; what is not is refused here too, by the way.

use std::borrow::Cow;

use super::bson::{self, ARRAY, BOOLEAN, DECIMAL128, DOCUMENT, DOUBLE, NULL};
use super::{Unstorable, decimal128};

/// Appends the members of an object as elements of the outermost document, whose names must be ones that MongoDB and this engine
/// leave free.
pub(super) fn members(out: &mut Vec<u8>, object: &[u8]) -> Result<(), Unstorable> {
    let mut reader = Reader { rest: object };
    reader.expect(b'{')?;
    reader.object(out, 1)
}

/// Appends a value, and returns its BSON type. `depth` is that of the document around it.
pub(super) fn value(out: &mut Vec<u8>, text: &[u8], depth: usize) -> Result<u8, Unstorable> {
    Reader { rest: text }.value(out, depth)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.skip(1);
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unstorable> {
        if self.eat(byte) { Ok(()) } else { Err(Unstorable::BrokenJson) }
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<u8, Unstorable> {
        match self.peek() {
            Some(b'{') => self.nested(out, depth, Self::object, DOCUMENT),
            Some(b'[') => self.nested(out, depth, Self::array, ARRAY),
            Some(b'"') => {
                let text = self.text()?;
                Ok(bson::string(out, text.as_bytes()))
            }
            Some(b't') => self.word(b"true", || out.push(1), BOOLEAN),
            Some(b'f') => self.word(b"false", || out.push(0), BOOLEAN),
            Some(b'n') => self.word(b"null", || {}, NULL),
            Some(b'-' | b'0'..=b'9') => self.number(out),
            _ => Err(Unstorable::BrokenJson),
        }
    }

    fn word(&mut self, word: &[u8], write: impl FnOnce(), kind: u8) -> Result<u8, Unstorable> {
        self.rest = self.rest.strip_prefix(word).ok_or(Unstorable::BrokenJson)?;
        write();
        Ok(kind)
    }

    fn nested(
        &mut self,
        out: &mut Vec<u8>,
        depth: usize,
        content: fn(&mut Self, &mut Vec<u8>, usize) -> Result<(), Unstorable>,
        kind: u8,
    ) -> Result<u8, Unstorable> {
        if bson::too_deep(depth) {
            return Err(Unstorable::TooDeep);
        }
        self.skip(1);
        let start = bson::begin(out);
        content(self, out, depth + 1)?;
        bson::end(out, start);
        Ok(kind)
    }

    /// The members of an object behind its brace, and the closing brace.
    fn object(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<(), Unstorable> {
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.peek();
            let name = self.text()?;
            check_name(&name, depth)?;
            self.expect(b':')?;
            let type_at = out.len();
            out.push(0);
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            let kind = self.value(out, depth)?;
            bson::set_type(out, type_at, kind);
            if !self.eat(b',') {
                return self.expect(b'}');
            }
        }
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<(), Unstorable> {
        if self.eat(b']') {
            return Ok(());
        }
        for index in 0u64.. {
            let type_at = out.len();
            out.push(0);
            out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
            out.push(0);
            let kind = self.value(out, depth)?;
            bson::set_type(out, type_at, kind);
            if !self.eat(b',') {
                break;
            }
        }
        self.expect(b']')
    }

    fn text(&mut self) -> Result<Cow<'a, str>, Unstorable> {
        let inside = self.rest.strip_prefix(b"\"").ok_or(Unstorable::BrokenJson)?;
        let mut escaped = false;
        let mut has_escapes = false;
        for (at, &byte) in inside.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => (escaped, has_escapes) = (true, true),
                b'"' => {
                    let (token, behind) = self.rest.split_at_checked(at + 2).ok_or(Unstorable::BrokenJson)?;
                    self.rest = behind;
                    if has_escapes {
                        return serde_json::from_slice::<String>(token).map(Cow::Owned).map_err(|_| Unstorable::BrokenJson);
                    }
                    let plain = inside.get(..at).ok_or(Unstorable::BrokenJson)?;
                    return std::str::from_utf8(plain).map(Cow::Borrowed).map_err(|_| Unstorable::BrokenJson);
                }
                _ => {}
            }
        }
        Err(Unstorable::BrokenJson)
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Result<u8, Unstorable> {
        let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.rest.iter().position(|b| !is_part(b)).unwrap_or(self.rest.len());
        let (token, behind) = self.rest.split_at_checked(length).ok_or(Unstorable::BrokenJson)?;
        self.rest = behind;
        let text = std::str::from_utf8(token).map_err(|_| Unstorable::BrokenJson)?;
        // "-0" is a double: an integer has no sign of zero.
        if text != "-0" {
            if let Ok(number) = text.parse::<i64>() {
                return Ok(bson::int64(out, number));
            }
            if let Some(bytes) = integer(token).and_then(decimal128::from_text) {
                out.extend_from_slice(&bytes);
                return Ok(DECIMAL128);
            }
        }
        let number: f64 = text.parse().map_err(|_| Unstorable::BrokenJson)?;
        if !number.is_finite() {
            return Err(Unstorable::NotFinite);
        }
        out.extend_from_slice(&number.to_le_bytes());
        Ok(DOUBLE)
    }
}

fn integer(token: &[u8]) -> Option<&[u8]> {
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    digits.iter().all(u8::is_ascii_digit).then_some(token)
}

fn check_name(name: &str, depth: usize) -> Result<(), Unstorable> {
    if name.contains('\0') {
        return Err(Unstorable::NulInName);
    }
    // The outermost document is written by an update, where such names have a meaning of their own; further inside they are data.
    if depth == 1 && (name.starts_with('$') || name.contains('.') || matches!(name, "_id" | "_sync" | "")) {
        return Err(Unstorable::ReservedName);
    }
    Ok(())
}
