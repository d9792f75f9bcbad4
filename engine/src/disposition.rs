//! Every fault, and what follows from it: retry, dead-letter or halt. Nowhere else is this decided.
//!
//! - *Retry*: nobody's fault but the moment's. Back off and send again, as long as it takes: giving up would skip a record.
//! - *Dead-letter*: this record's own fault. It goes to the dead-letter topic with its original bytes; the others go on.
//! - *Halt*: going on would lose or falsify data, or an operator must act first. The route stops and says what to do.
//!
//! The text of each error names the place and the remedy; docs/faults.md lists them for operators.

use std::borrow::Cow;

use crate::plan::Fault;
use crate::{dead_letter, decode, identity, plan, sink, source, transform};

/// What follows from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try again, without limit.
    Retry,
    /// Give this record up, to the dead-letter topic.
    DeadLetter,
    /// Stop the route.
    Halt,
}

/// A record's fault.
pub fn of_fault(fault: &Fault) -> Disposition {
    match fault {
        Fault::Decode(error) => of_decode(error),
        Fault::Route(crate::route::Error::OtherTable { .. }) => Disposition::DeadLetter,
        Fault::Transform(error) => of_transform(error),
        Fault::Plan(error) => of_plan(error),
        Fault::Sink(error) => of_sink(error),
    }
}

/// Whether another module may fare better with the same record, where the fault halts.
pub fn is_of_module(fault: &Fault) -> bool {
    match fault {
        Fault::Transform(_) => true,
        Fault::Decode(_) | Fault::Route(_) | Fault::Plan(_) | Fault::Sink(_) => false,
    }
}

/// A sink's answer to a write.
pub fn of_sink(error: &sink::Error) -> Disposition {
    match error {
        sink::Error::Away { .. } | sink::Error::Full { .. } => Disposition::Retry,
        sink::Error::Refused { .. } => Disposition::DeadLetter,
        sink::Error::OtherPartition { .. } | sink::Error::Setup { .. } => Disposition::Halt,
    }
}

/// Reading a partition.
pub fn of_source(error: &source::Error) -> Disposition {
    match error {
        source::Error::Away { .. } => Disposition::Retry,
        source::Error::OffsetLost { .. } | source::Error::Setup { .. } => Disposition::Halt,
    }
}

/// Reading or storing the identity of a topic.
pub fn of_identity(error: &identity::Error) -> Disposition {
    match error {
        identity::Error::Away { .. } => Disposition::Retry,
        identity::Error::Setup { .. } => Disposition::Halt,
    }
}

/// Sending dead letters.
pub fn of_dead_letter(error: &dead_letter::Error) -> Disposition {
    match error {
        dead_letter::Error::Away { .. } => Disposition::Retry,
        dead_letter::Error::Setup { .. } => Disposition::Halt,
    }
}

/// Stage and code of a fault: the labels of its metric, and headers of its dead letter.
pub fn label(fault: &Fault) -> (&str, Cow<'_, str>) {
    match fault {
        Fault::Decode(error) => ("decode", error.code().into()),
        Fault::Route(crate::route::Error::OtherTable { .. }) => ("route", "other-table".into()),
        Fault::Transform(error) => ("transform", error.code().into()),
        Fault::Plan(error) => ("plan", error.code().into()),
        Fault::Sink(sink::Error::Refused { sink, code, .. }) => (sink, (*code).into()),
        // These are retried or halt: no record is given up for them.
        Fault::Sink(sink::Error::Away { sink, .. }) => (sink, "away".into()),
        Fault::Sink(sink::Error::Full { sink, .. }) => (sink, "full".into()),
        Fault::Sink(sink::Error::OtherPartition { sink, .. }) => (sink, "other-partition".into()),
        Fault::Sink(sink::Error::Setup { sink, .. }) => (sink, "setup".into()),
    }
}

fn of_decode(error: &decode::Error) -> Disposition {
    use decode::Error as E;
    match error {
        // What the row holds is not known: storing the rest would falsify the document, skipping it would leave the old one.
        E::IncompleteRow { .. } => Disposition::Halt,
        // A user may have typed the mark's very text: one row must not stop all others. Where every record is such, the budget of dead letters halts.
        E::UnavailableValue { .. } => Disposition::DeadLetter,
        E::Utf8 { .. }
        | E::Json { .. }
        | E::TooDeep { .. }
        | E::NotAnEnvelope
        | E::UnexpectedSchema
        | E::NoSchema { .. }
        | E::BadSchema { .. }
        | E::UnsupportedType { .. }
        | E::UnknownOp
        | E::NoPrimaryKey { .. }
        | E::BadKey { .. }
        | E::KeyNotInRow { .. }
        | E::UnknownColumn { .. }
        | E::MissingImage { .. }
        | E::Duplicate { .. }
        | E::Value { .. }
        | E::Member { .. }
        | E::OtherTable { .. } => Disposition::DeadLetter,
    }
}

fn of_transform(error: &transform::Error) -> Disposition {
    use transform::Error as E;
    match error {
        E::Rejected { .. }
        | E::GuestError { .. }
        | E::Trapped { .. }
        | E::TimedOut { .. }
        | E::OutOfMemory { .. }
        | E::BrokenOutcome { .. }
        | E::TooLarge { .. }
        | E::OpenFailed { .. }
        | E::GivenUp { .. } => Disposition::DeadLetter,
        E::Unavailable { .. } | E::NoPlace { .. } => Disposition::Halt,
    }
}

fn of_plan(error: &plan::Error) -> Disposition {
    match error {
        plan::Error::Field { .. } | plan::Error::Key { .. } | plan::Error::TooLarge { .. } | plan::Error::TwoPuts { .. } => {
            Disposition::DeadLetter
        }
        plan::Error::Offset { .. } => Disposition::Halt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Docs/decisions/0023: anyone can type the mark of an unavailable value; nobody can type a missing column.
    #[test]
    fn a_text_in_one_row_halts_no_table() {
        let (image, column) = ("after", "name".to_owned());
        assert_eq!(of_decode(&decode::Error::UnavailableValue { image, column: column.clone() }), Disposition::DeadLetter);
        assert_eq!(of_decode(&decode::Error::IncompleteRow { image, column }), Disposition::Halt);
    }
}
