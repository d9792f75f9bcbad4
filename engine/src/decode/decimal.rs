//! DECIMAL: from the forms in which connectors write it to plain text, exactly.

/// Longest decimal that is accepted, in digits: MySQL has 65; the rest is room for other sources' columns.
const MAX_DIGITS: usize = 400;

/// Appends an unscaled big-endian two's complement as plain text with `scale` digits behind the point.
pub(super) fn from_unscaled(bytes: &[u8], scale: i32, out: &mut Vec<u8>) -> Option<()> {
    if bytes.is_empty() || bytes.len() > 128 {
        return None;
    }
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    if bytes.len() <= 16 {
        let fill = if negative { 0xff } else { 0 };
        let mut wide = [fill; 16];
        wide.get_mut(16 - bytes.len()..)?.copy_from_slice(bytes);
        let magnitude = i128::from_be_bytes(wide).unsigned_abs();
        return match u64::try_from(magnitude) {
            Ok(small) => place_point(itoa::Buffer::new().format(small), negative, scale, out),
            Err(_) => place_point(itoa::Buffer::new().format(magnitude), negative, scale, out),
        };
    }
    place_point(&magnitude_digits(bytes, negative), negative, scale, out)
}

/// Decimal digits of the magnitude of a wide two's complement: repeated division by 10^18.
fn magnitude_digits(bytes: &[u8], negative: bool) -> String {
    const CHUNK: u128 = 1_000_000_000_000_000_000;
    let mut limbs: Vec<u64> =
        bytes.rchunks(8).map(|c| c.iter().fold(if negative { u64::MAX } else { 0 }, |n, &b| n << 8 | u64::from(b))).collect();
    if negative {
        let mut carry = true;
        for limb in &mut limbs {
            (*limb, carry) = (!*limb).overflowing_add(carry.into());
        }
    }
    let mut chunks = Vec::new();
    while limbs.iter().any(|&l| l != 0) {
        let mut rest: u128 = 0;
        for limb in limbs.iter_mut().rev() {
            let n = rest << 64 | u128::from(*limb);
            *limb = (n / CHUNK) as u64;
            rest = n % CHUNK;
        }
        chunks.push(rest as u64);
    }
    let mut digits = String::new();
    for (i, chunk) in chunks.iter().rev().enumerate() {
        digits += &if i == 0 { chunk.to_string() } else { format!("{chunk:018}") };
    }
    if digits.is_empty() { "0".into() } else { digits }
}

/// Appends digits with a sign, and with the point before the last `scale` of them.
fn place_point(digits: &str, negative: bool, scale: i32, out: &mut Vec<u8>) -> Option<()> {
    let digits = digits.as_bytes();
    if scale.unsigned_abs() as usize > MAX_DIGITS || digits.len() > MAX_DIGITS {
        return None;
    }
    if negative {
        out.push(b'-');
    }
    if scale <= 0 {
        out.extend_from_slice(digits);
        if digits != b"0" {
            out.resize(out.len() + scale.unsigned_abs() as usize, b'0');
        }
        return Some(());
    }
    let scale = scale as usize;
    match digits.len().checked_sub(scale) {
        Some(whole) if whole > 0 => {
            let (whole, fraction) = digits.split_at(whole);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        _ => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + scale - digits.len(), b'0');
            out.extend_from_slice(digits);
        }
    }
    Some(())
}

/// Appends a decimal given as text or as a JSON number ("1234.50", "1E-30") as plain text. With a scale the text gets that many digits behind the point, and
/// digits beyond it are refused unless they are zeros: nothing is rounded.
pub(super) fn from_text(text: &str, scale: Option<i32>, out: &mut Vec<u8>) -> Option<()> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || (mantissa.contains('.') && fraction.is_empty()) {
        return None;
    }
    let wanted = scale.unwrap_or(0).max(0).unsigned_abs() as usize;
    if whole.len() + fraction.len() > MAX_DIGITS || exponent.unsigned_abs() as usize > MAX_DIGITS || wanted > MAX_DIGITS {
        return None;
    }
    let mut digits = [whole, fraction].concat();
    let mut own_scale = fraction.len() as i32 - exponent;
    let wanted = scale.unwrap_or(own_scale).max(0);
    while own_scale < wanted {
        digits.push('0');
        own_scale += 1;
    }
    while own_scale > wanted {
        // A dropped digit that is not zero would round. No digit left means that the value is zero so far.
        if digits.pop().is_some_and(|d| d != '0') {
            return None;
        }
        own_scale -= 1;
    }
    let digits = digits.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    place_point(digits, negative && digits != "0", wanted, out)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unscaled(bytes: &[u8], scale: i32) -> Option<String> {
        let mut out = Vec::new();
        from_unscaled(bytes, scale, &mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    fn text(input: &str, scale: Option<i32>) -> Option<String> {
        let mut out = Vec::new();
        from_text(input, scale, &mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn unscaled_bytes() {
        for (bytes, scale, expected) in [
            (&[0x00][..], 2, "0.00"),
            (&[0xff], 0, "-1"),
            (&[0xff], 3, "-0.001"),
            (&[0x01, 0xe2, 0x3a], 2, "1234.50"),
            (&[0x05], -3, "5000"),
            (&[0x00], -3, "0"),
            (&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, "-170141183460469231731687303715884105728"),
            (&[0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1, "17014118346046923173168730371588410572.8"),
            (&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, "-11150372599265311570767859136324180752990208"),
        ] {
            assert_eq!(unscaled(bytes, scale).as_deref(), Some(expected));
        }
        assert_eq!(unscaled(&[], 2), None);
        assert_eq!(unscaled(&[1], i32::MAX), None);
        assert_eq!(unscaled(&[1], i32::MIN), None);
    }

    #[test]
    fn texts() {
        for (input, scale, expected) in [
            ("1E-30", Some(30), Some("0.000000000000000000000000000001")),
            ("1234.50", Some(2), Some("1234.50")),
            ("1234.5", Some(2), Some("1234.50")),
            ("-0.00", Some(2), Some("0.00")),
            ("0E-10", Some(2), Some("0.00")),
            ("12E3", None, Some("12000")),
            ("007.5", None, Some("7.5")),
            ("1.005", Some(2), None),
            ("1.", None, None),
            (".5", None, None),
            ("", None, None),
            ("1e999999999", None, None),
            ("1e99999999999", None, None),
            ("NaN", None, None),
            ("+1", None, None),
        ] {
            assert_eq!(text(input, scale).as_deref(), expected, "{input}");
        }
    }

    proptest! {
        #[test]
        fn unscaled_equals_i128(n: i128, scale in 0i32..40) {
            let narrow = unscaled(&n.to_be_bytes(), scale).unwrap();
            // Sign extension takes the wide way, which must say the same.
            let mut wide = vec![if n < 0 { 0xff } else { 0 }; 9];
            wide.extend_from_slice(&n.to_be_bytes());
            prop_assert_eq!(unscaled(&wide, scale).unwrap(), narrow.clone());
            prop_assert_eq!(narrow.replace('.', "").parse::<i128>().unwrap(), n);
            prop_assert_eq!(text(&narrow, Some(scale)).unwrap(), narrow);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, input: String, scale: i32) {
            unscaled(&bytes, scale);
            text(&input, Some(scale));
        }
    }
}
