//! What servers answer when something is wrong: any code and any text is given a meaning, and no value of a row gets out.
//!
//! An input is a number, then a code and a detail in two lines; or BSON. Kafka has the number alone.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use streamsync::disposition::{self, Disposition};
use streamsync::sink::{Error, mongodb, redis};
use streamsync::source::{self, TopicPartition};

use crate::input::Input;

const ARGUMENTS: &str = "the arguments of a command";

/// Behind these is a record that librdkafka would pass over, or an offset that it would choose by itself: nobody may read on.
const NEVER_READ_ON: [Code; 8] = [
    Code::OffsetOutOfRange,
    Code::AutoOffsetReset,
    Code::NoOffset,
    Code::LogTruncation,
    Code::BadMessage,
    Code::BadCompression,
    Code::InvalidMessage,
    Code::MessageSizeTooLarge,
];

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let number = input.number().cast_signed() as i32;
    let rest = input.rest();
    if let Some(error) = mongodb::fault_of_write(rest) {
        check(&error);
    }
    check(&mongodb::fault_of_command(number, "CodeName"));
    check_kafka(number);
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

/// librdkafka's codes are between -200 and 200.
fn check_kafka(number: i32) {
    let partition = TopicPartition::new("shop.orders", 3);
    assert!(source::fault_of(&partition, &KafkaError::PartitionEOF(3)).is_none(), "the end of a partition is no fault");
    let Ok(code) = RDKafkaRespErr::try_from(number % 200).map(Code::from) else { return };
    for error in [KafkaError::MessageConsumption(code), KafkaError::MessageConsumptionFatal(code), KafkaError::Global(code)] {
        let fault = source::fault_of(&partition, &error).expect("an error is never taken for nothing");
        assert!(fault.to_string().contains("shop.orders/3"), "{fault} does not say where");
        match disposition::of_source(&fault) {
            Disposition::Retry => assert!(!NEVER_READ_ON.contains(&code), "{code:?} is read past"),
            Disposition::DeadLetter => unreachable!("{fault}: what was not read has no letter"),
            Disposition::Halt => {}
        }
    }
}
