//! The ciphers of TLS 1.3's records, from the library that is fastest on this processor: docs/performance.md has
//! figures.

use super::sizes::{HEADER_LEN, TAG_LEN};
use aws_lc_rs::aead as aws_lc;
use ring::aead as ring;
use rustls::ConnectionTrafficSecrets;

/// One key. Both libraries compute the same result.
pub(super) enum Aead {
    AwsLc(aws_lc::LessSafeKey),
    Ring(Box<ring::LessSafeKey>),
}

/// The cipher refused: the text was altered, or it is too long.
#[derive(Debug)]
pub(super) struct Refused;

pub(super) type Nonce = [u8; 12];

impl Aead {
    /// The key of one direction, and the secret part of its nonces; `None` for an unsupported cipher.
    pub(super) fn new(secrets: &ConnectionTrafficSecrets) -> Option<(Aead, Nonce)> {
        Self::by(ring_is_faster(), secrets)
    }

    fn by(ring_is_faster: bool, secrets: &ConnectionTrafficSecrets) -> Option<(Aead, Nonce)> {
        use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
        let (aws_lc, ring, key, iv) = match secrets {
            Aes128Gcm { key, iv } => (&aws_lc::AES_128_GCM, &ring::AES_128_GCM, key, iv),
            Aes256Gcm { key, iv } => (&aws_lc::AES_256_GCM, &ring::AES_256_GCM, key, iv),
            Chacha20Poly1305 { key, iv } => (&aws_lc::CHACHA20_POLY1305, &ring::CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        let key = if ring_is_faster {
            Aead::Ring(Box::new(ring::LessSafeKey::new(ring::UnboundKey::new(ring, key.as_ref()).ok()?)))
        } else {
            Aead::AwsLc(aws_lc::LessSafeKey::new(aws_lc::UnboundKey::new(aws_lc, key.as_ref()).ok()?))
        };
        Some((key, iv.as_ref().try_into().ok()?))
    }

    /// Encrypts `text` in place; the returned tag authenticates it and `header`.
    pub(super) fn seal(
        &self,
        nonce: Nonce,
        header: [u8; HEADER_LEN],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], Refused> {
        let tag = match self {
            Aead::AwsLc(key) => {
                let nonce = aws_lc::Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, aws_lc::Aad::from(header), text);
                tag.map_err(|_| Refused)?.as_ref().try_into()
            }
            Aead::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, ring::Aad::from(header), text);
                tag.map_err(|_| Refused)?.as_ref().try_into()
            }
        };
        tag.map_err(|_| Refused)
    }

    /// Verifies and decrypts the cipher text and tag in `bytes[from..]`, and puts the plain text at the front of
    /// `bytes`. Returns its length.
    pub(super) fn open(
        &self,
        nonce: Nonce,
        header: [u8; HEADER_LEN],
        bytes: &mut [u8],
        from: usize,
    ) -> Result<usize, Refused> {
        match self {
            Aead::AwsLc(key) => {
                let nonce = aws_lc::Nonce::assume_unique_for_key(nonce);
                let plain = key.open_within(nonce, aws_lc::Aad::from(header), bytes, from..);
                plain.map(|plain| plain.len()).map_err(|_| Refused)
            }
            Aead::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(nonce);
                let plain = key.open_within(nonce, ring::Aad::from(header), bytes, from..);
                plain.map(|plain| plain.len()).map_err(|_| Refused)
            }
        }
    }
}

/// AES-GCM for processors with vector AES but without AVX-512, such as AMD's Zen 3 and Intel's Alder Lake: ring has
/// code for them, aws-lc only for AVX-512 and for older processors.
fn ring_is_faster() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("avx2")
            && !is_x86_feature_detected!("avx512f")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::crypto::cipher::{AeadKey, Iv};

    proptest! {
        /// The two ends may run on different processors.
        #[test]
        fn both_libraries_compute_the_same(
            text in prop::collection::vec(any::<u8>(), 0..300),
            key: [u8; 32],
            nonce: Nonce,
            header: [u8; HEADER_LEN],
            gap in 0_usize..400,
        ) {
            let iv = || Iv::from(nonce);
            for secrets in [
                ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from(key), iv: iv() },
                ConnectionTrafficSecrets::Chacha20Poly1305 { key: AeadKey::from(key), iv: iv() },
            ] {
                for ring_seals in [false, true] {
                    let (sealing, begin) = Aead::by(ring_seals, &secrets).unwrap();
                    let (opening, _) = Aead::by(!ring_seals, &secrets).unwrap();
                    prop_assert_eq!(begin, nonce);
                    let mut bytes = vec![0; gap];
                    bytes.extend_from_slice(&text);
                    let tag = sealing.seal(nonce, header, &mut bytes[gap..]).unwrap();
                    bytes.extend_from_slice(&tag);
                    prop_assert_eq!(opening.open(nonce, header, &mut bytes, gap).unwrap(), text.len());
                    prop_assert_eq!(&bytes[..text.len()], &text[..]);
                }
            }
        }
    }
}
