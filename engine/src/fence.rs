//! The version of a write. Ordering lives here and nowhere else.
//!
//! A fence is one positive 64-bit integer: 15 bits of generation above 48 bits of Kafka offset. A sink applies a write only if
//! its fence is greater than the one that the key holds. The order is that of the log which the engine reads; timestamps,
//! binlog positions and GTIDs never take part (docs/decisions/0002-fence.md).

use std::fmt;

/// Counts the lives of a topic: the same topic name after it was recreated, or moved to another cluster, is the next generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u16);

impl Generation {
    /// The generation of a topic that was never recreated.
    pub const FIRST: Self = Self(1);
    /// The greatest generation that 15 bits hold.
    pub const MAX: Self = Self(0x7fff);

    /// `None` for 0, which no topic has, and beyond [`Generation::MAX`].
    pub const fn new(number: u16) -> Option<Self> {
        if number == 0 || number > Self::MAX.0 { None } else { Some(Self(number)) }
    }

    /// The number as it is stored.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// `None` behind the last.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

/// The version of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(i64);

/// Number of decimal digits of the greatest fence; Redis compares fences as text of this width, because Lua numbers are doubles.
pub const FENCE_DIGITS: usize = 19;
const OFFSET_BITS: u32 = 48;
const MAX_OFFSET: i64 = (1 << OFFSET_BITS) - 1;

impl Fence {
    /// `None` for an offset outside 0..2^48, which no Kafka partition reaches.
    pub const fn new(generation: Generation, offset: i64) -> Option<Self> {
        if offset < 0 || offset > MAX_OFFSET { None } else { Some(Self((generation.0 as i64) << OFFSET_BITS | offset)) }
    }

    /// The least of a generation.
    pub const fn first(generation: Generation) -> Self {
        Self((generation.0 as i64) << OFFSET_BITS)
    }

    /// The greatest of the generation before: behind whatever that generation wrote, and before all of `generation`. `None` for the first.
    pub const fn last_before(generation: Generation) -> Option<Self> {
        match Generation::new(generation.0 - 1) {
            Some(before) => Self::new(before, MAX_OFFSET),
            None => None,
        }
    }

    /// A fence as a sink stored it.
    pub const fn from_stored(number: i64) -> Option<Self> {
        if number >> OFFSET_BITS > 0 { Some(Self(number)) } else { None }
    }

    /// The number as MongoDB stores it.
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The number as Redis stores it, zero-padded: text order is number order.
    pub fn digits(self) -> [u8; FENCE_DIGITS] {
        let mut digits = [b'0'; FENCE_DIGITS];
        let mut buffer = itoa::Buffer::new();
        let number = buffer.format(self.0).as_bytes();
        digits.iter_mut().rev().zip(number.iter().rev()).for_each(|(digit, of_number)| *digit = *of_number);
        digits
    }

    /// The generation part.
    pub const fn generation(self) -> Generation {
        Generation((self.0 >> OFFSET_BITS) as u16)
    }

    /// The offset part.
    pub const fn offset(self) -> i64 {
        self.0 & MAX_OFFSET
    }
}

/// [`Fence::digits`].
impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digits().iter().try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_is_generation_then_offset(g in 1u16..=0x7fff, o in 0i64..=MAX_OFFSET, g2 in 1u16..=0x7fff, o2 in 0i64..=MAX_OFFSET) {
            let fence = |g, o| Fence::new(Generation::new(g).expect("in range"), o).expect("in range");
            let (a, b) = (fence(g, o), fence(g2, o2));
            prop_assert_eq!(a.cmp(&b), (g, o).cmp(&(g2, o2)));
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
            prop_assert_eq!(a.to_string(), format!("{:019}", a.number()));
            prop_assert_eq!((a.generation().number(), a.offset()), (g, o));
            prop_assert_eq!(Fence::from_stored(a.number()), Some(a));
        }
    }

    #[test]
    fn what_is_no_fence() {
        assert_eq!(Fence::new(Generation::FIRST, -1), None);
        assert_eq!(Fence::new(Generation::FIRST, MAX_OFFSET + 1), None);
        assert_eq!(Fence::from_stored(0), None);
        assert_eq!(Fence::from_stored(MAX_OFFSET), None);
        assert_eq!(Fence::from_stored(-1), None);
        assert_eq!(Generation::MAX.next(), None);
        assert_eq!(Fence::last_before(Generation::FIRST), None);
        let second = Generation::FIRST.next().expect("a generation");
        let first_of_second = Fence::new(second, 0).expect("a fence");
        assert_eq!(Fence::first(second), first_of_second);
        assert_eq!(Fence::last_before(second).map(Fence::number), Some(first_of_second.number() - 1));
    }
}
