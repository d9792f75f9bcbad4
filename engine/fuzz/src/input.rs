//! Bytes read as what a target needs of them. At the end everything is zero, so that each input means something.

/// What is left of an input.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to so many bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    pub(crate) fn number(&mut self) -> u64 {
        let mut word = [0; 8];
        let taken = self.bytes(8);
        word[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(word)
    }

    /// A number of few bytes as often as one of many.
    pub(crate) fn small(&mut self) -> i64 {
        match self.byte() & 3 {
            0 => i64::from(self.byte()),
            1 => -i64::from(self.byte()),
            2 => i64::from(self.byte()) << 40,
            _ => self.number().cast_signed(),
        }
    }

    /// A short stretch, its length first.
    pub(crate) fn stretch(&mut self) -> &'a [u8] {
        let len = self.byte() & 15;
        self.bytes(len.into())
    }

    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.stretch()).into_owned()
    }
}
