//! Tokens for clients that keep none.

use sha3::{Digest, Sha3_256};

use super::Token;

/// The sessions of one key that get their addresses back.
pub const KEY_SESSIONS: usize = 4;

/// Makes the tokens of clients that do not keep one. Such a client is known by the hash of its key, which it names in
/// its request for service. The token depends on a secret, so nobody else can compute it.
#[derive(Clone, Debug)]
pub struct KeyTokens {
    secret: [u8; 32],
}

impl KeyTokens {
    /// Creates the tokens of a server. `secret` is random.
    pub fn new(secret: [u8; 32]) -> KeyTokens {
        KeyTokens { secret }
    }

    /// Returns the tokens of a key hash, one for each session that the client may have at once with an address of its
    /// own; `None` for the blank hash, which names no client.
    pub fn of(&self, key_hash: &[u8; 32]) -> Option<[Token; KEY_SESSIONS]> {
        if *key_hash == [0; 32] {
            return None;
        }
        Some(std::array::from_fn(|number| self.token(key_hash, number as u8)))
    }

    /// Returns the token of the address that is reserved for a key hash. It is for the client that has proved its key.
    pub fn of_static(&self, key_hash: &[u8; 32]) -> Token {
        self.token(key_hash, STATIC)
    }

    fn token(&self, key_hash: &[u8; 32], number: u8) -> Token {
        let hash: [u8; 32] =
            Sha3_256::new().chain_update(self.secret).chain_update(key_hash).chain_update([number]).finalize().into();
        std::array::from_fn(|at| hash[at])
    }
}

/// Stands for the static lease in place of a session's number.
const STATIC: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_for_each_key_and_secret() {
        let [here, there] = [KeyTokens::new([1; 32]), KeyTokens::new([2; 32])];
        assert_eq!(here.of(&[7; 32]), here.of(&[7; 32]));
        assert_ne!(here.of(&[7; 32]), here.of(&[8; 32]));
        assert_ne!(here.of(&[7; 32]), there.of(&[7; 32]));
        assert_eq!(here.of(&[0; 32]), None);
        let [first, second, third, fourth] = here.of(&[7; 32]).unwrap();
        assert!(![first, second, third, fourth].contains(&here.of_static(&[7; 32])));
        assert_ne!(here.of_static(&[7; 32]), there.of_static(&[7; 32]));
        assert!(first != second && second != third && third != fourth && first != fourth);
    }
}
