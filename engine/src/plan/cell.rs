//! A cell as the encoders read it: where a guest passed a column on by reference, the column's.

use crate::change::{Cells, ChangeEvent, Tag};
use crate::transform::{TAG_AFTER, TAG_BEFORE};

/// A cell without its batch. Texts stay bytes: whoever filled the batch vouches that they are UTF-8.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a> {
    pub(super) tag: Tag,
    /// The payload of a tag that has no span.
    pub(super) word: u64,
    /// The span of a tag that has one.
    pub(super) bytes: &'a [u8],
    /// The column of the table that a guest passed on. The source's JSON was never parsed, a guest's was.
    pub(super) column: Option<u32>,
}

impl<'a> Cell<'a> {
    const ABSENT: Self = Cell { tag: Tag::Absent, word: 0, bytes: &[], column: None };

    pub(super) fn is_missing(self) -> bool {
        matches!(self.tag, Tag::Null | Tag::Absent)
    }

    /// The cell of a batch; absent where there is none.
    pub(super) fn read(cells: &'a Cells, index: usize) -> Self {
        let (Some(&tag), Some(&word)) = (cells.tags.get(index), cells.words.get(index)) else { return Self::ABSENT };
        let Some(tag) = Tag::from_number(tag) else { return Self::ABSENT };
        if !tag.is_span() {
            return Cell { tag, word, bytes: &[], column: None };
        }
        let start = (word >> 32) as usize;
        match cells.heap.get(start..start + (word as u32) as usize) {
            Some(bytes) => Cell { tag, word: 0, bytes, column: None },
            None => Self::ABSENT,
        }
    }

    /// A cell of a guest's answer to `event`, whose images lie in `rows`.
    pub(super) fn resolve(answer: &'a Cells, index: usize, event: &ChangeEvent, rows: &'a Cells) -> Self {
        let image = match answer.tags.get(index) {
            Some(&TAG_AFTER) => event.after,
            Some(&TAG_BEFORE) => event.before,
            _ => return Self::read(answer, index),
        };
        let (Some(image), Some(&column)) = (image, answer.words.get(index)) else { return Self::ABSENT };
        Cell { column: Some(column as u32), ..Self::read(rows, image as usize + column as usize) }
    }
}
