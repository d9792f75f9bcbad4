//! Decimal128, as BSON has it: IEEE 754-2008 with a binary integer significand, little-endian.

/// The digits that a Decimal128 holds.
pub(super) const MAX_DIGITS: usize = 34;
/// So many digits always fit into 64 bits.
const DIGITS_OF_A_WORD: usize = 19;
const EXPONENT_BIAS: usize = 6176;

/// A plain decimal text, `-12.340`, with its value and its scale. `None` where it has more than 34 digits, or is no decimal.
pub(super) fn from_text(text: &[u8]) -> Option<[u8; 16]> {
    let (negative, unsigned) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let mut coefficient: u128 = 0;
    // Nearly all decimals fit into 64 bits, whose arithmetic is several times faster.
    let mut low: u64 = 0;
    let mut digits = 0;
    let mut scale = None;
    for &byte in unsigned {
        match byte {
            b'0'..=b'9' => {
                let is_leading_zero = digits == 0 && byte == b'0';
                digits += usize::from(!is_leading_zero);
                if digits < DIGITS_OF_A_WORD {
                    low = low * 10 + u64::from(byte - b'0');
                    coefficient = u128::from(low);
                } else {
                    coefficient = coefficient * 10 + u128::from(byte - b'0');
                }
                if digits > MAX_DIGITS {
                    return None;
                }
                scale = scale.map(|s| s + 1);
            }
            b'.' if scale.is_none() => scale = Some(0),
            _ => return None,
        }
    }
    // The text's length bounds the scale far below the smallest exponent, unless a caller forgot to cap it.
    let exponent = EXPONENT_BIAS.checked_sub(scale.unwrap_or(0))?;
    Some(from_parts(negative, coefficient, exponent as u128))
}

/// An unsigned integer.
pub(super) fn from_u64(number: u64) -> [u8; 16] {
    from_parts(false, number.into(), EXPONENT_BIAS as u128)
}

fn from_parts(negative: bool, coefficient: u128, biased_exponent: u128) -> [u8; 16] {
    (u128::from(negative) << 127 | biased_exponent << 113 | coefficient).to_le_bytes()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use std::str::FromStr;

    #[test]
    fn equals_the_driver_s_own() {
        let thirty_four = "9".repeat(34);
        let scaled = format!("-0.{}", "1".repeat(34));
        for text in ["0", "-0", "0.00", "-0.00", "1", "12.340", "-12.340", "18446744073709551615", "0.000001", &thirty_four, &scaled] {
            let expected = bson::Decimal128::from_str(text).unwrap();
            assert_eq!(from_text(text.as_bytes()), Some(expected.bytes()), "{text}");
        }
        assert_eq!(from_u64(u64::MAX), bson::Decimal128::from_str("18446744073709551615").unwrap().bytes());
    }

    #[test]
    fn leading_zeros_are_no_digits() {
        let padded = format!("{}1", "0".repeat(60));
        assert_eq!(from_text(padded.as_bytes()), from_text(b"1"));
    }

    #[test]
    fn what_does_not_fit() {
        for text in ["9".repeat(35), format!("1{}", "0".repeat(34)), "1e5".into(), "--1".into(), "1.2.3".into(), "NaN".into()] {
            assert_eq!(from_text(text.as_bytes()), None, "{text}");
        }
    }
}
