//! Whether a module was signed by whom the configuration trusts: ECDSA on the curve P-256 with SHA-256, as `cosign sign-blob` writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

/// What stands before the point in the SubjectPublicKeyInfo of a P-256 key: no other kind of key is taken (RFC 5480).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point.
const POINT_BYTES: usize = 65;

/// The error says what is wrong with the key or the signature.
pub(super) fn verify(key_pem: &str, message: &[u8], signature_base64: &str) -> Result<(), &'static str> {
    let point = point(key_pem).ok_or("the key is no PEM of an ECDSA P-256 public key, as `cosign generate-key-pair` writes it")?;
    let signature = STANDARD.decode(signature_base64.trim()).map_err(|_| "the signature is no base64, as `cosign sign-blob` writes it")?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
    key.verify(message, &signature).map_err(|_| "the signature was not made with this key for this module")
}

fn point(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let der = STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()?;
    let point = der.strip_prefix(&P256_SPKI)?;
    (point.len() == POINT_BYTES && point.first() == Some(&4)).then(|| point.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with `openssl ecparam -name prime256v1 -genkey`, `openssl ec -pubout` and `openssl dgst -sha256 -sign`, as cosign does it.
    const KEY: &str = include_str!("tests/signature/key.pem");
    const SIGNATURE: &str = include_str!("tests/signature/message.sig");
    const OTHER_KEY: &str = include_str!("tests/signature/other_key.pem");
    const OTHER_CURVE: &str = include_str!("tests/signature/p384.pem");
    const MESSAGE: &[u8] = b"a module\n";

    #[test]
    fn only_the_key_s_own_signature_of_the_message_passes() {
        assert_eq!(verify(KEY, MESSAGE, SIGNATURE), Ok(()));
        let not_made = Err("the signature was not made with this key for this module");
        assert_eq!(verify(KEY, b"another module\n", SIGNATURE), not_made);
        assert_eq!(verify(OTHER_KEY, MESSAGE, SIGNATURE), not_made);
        assert_eq!(verify(KEY, MESSAGE, ""), not_made);
        assert!(verify(KEY, MESSAGE, "no base64!").is_err_and(|why| why.contains("no base64")));
        for key in [OTHER_CURVE, "", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"] {
            assert!(verify(key, MESSAGE, SIGNATURE).is_err_and(|why| why.contains("P-256")), "{key}");
        }
    }
}
