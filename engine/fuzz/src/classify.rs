//! What servers answer when something is wrong: any code and any text is given a meaning, and no value of a row gets out.
//!
//! An input is a number, then a code and a detail in two lines; or BSON.

use streamsync::disposition;
use streamsync::sink::{Error, mongodb, redis};

use crate::input::Input;

const ARGUMENTS: &str = "the arguments of a command";

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let number = input.number().cast_signed() as i32;
    let rest = input.rest();
    if let Some(error) = mongodb::fault_of_write(rest) {
        check(&error);
    }
    check(&mongodb::fault_of_command(number, "CodeName"));
    let text = String::from_utf8_lossy(rest);
    let (code, detail) = text.split_once('\n').unwrap_or((&text, ""));
    check(&redis::fault_of_write(code, detail));
    // What a server repeats of a command's arguments may be a row's.
    let error = redis::fault_of_write(code, &format!("{detail}, with args beginning with: '{ARGUMENTS}'"));
    check(&error);
    assert!(!error.to_string().contains(ARGUMENTS) || text.contains(ARGUMENTS), "arguments of a command: {error}");
}

fn check(error: &Error) {
    assert!(!error.to_string().is_empty());
    // Every error has a disposition; this asks for it.
    disposition::of_sink(error);
}
