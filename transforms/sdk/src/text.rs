//! Texts in one case, without a copy where they already are.

use std::borrow::Cow;

/// Upper case, by Unicode.
#[inline]
pub fn upper(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_lowercase()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(if text.is_ascii() { text.to_ascii_uppercase() } else { text.to_uppercase() })
}

/// Lower case, by Unicode.
#[inline]
pub fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(if text.is_ascii() { text.to_ascii_lowercase() } else { text.to_lowercase() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_follows_unicode_and_copies_only_what_changes() {
        assert!(matches!(upper("PAID-2"), Cow::Borrowed("PAID-2")));
        assert!(matches!(lower("ada@example.com"), Cow::Borrowed("ada@example.com")));
        assert_eq!(upper("straße"), "STRASSE");
        assert_eq!(lower("JOSÉ@EXAMPLE.COM"), "josé@example.com");
        assert_eq!(upper(""), "");
    }
}
