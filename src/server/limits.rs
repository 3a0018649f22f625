//! `GET /remain_limits_vpn?net_id=<decimal>&user_pkey_hash=<hash>`: the remaining limits of a client's paid service.

use crate::sdk::http;
use crate::sdk::net::Net;
use vpn_core::meter::{Client, Rest};
use vpn_core::wire::parse_hash;

/// Answers a request with status and JSON. The parameters may be in either order; the reply names an invalid one.
pub(super) fn answer(query: &[u8]) -> (u16, String) {
    match parse(query).and_then(|(net_id, user)| limits(net_id, &user)) {
        Ok(body) => (200, body),
        Err((status, reason)) => (status, format!("{{\"error\":\"{reason}\"}}")),
    }
}

type Refusal = (u16, &'static str);

fn parse(query: &[u8]) -> Result<(u64, String), Refusal> {
    let query = std::str::from_utf8(query).map_err(|_| (400, "the query is not text"))?;
    let value = |name: &str| {
        query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
    };
    let net_id = value("net_id").ok_or((400, "parameter net_id is missing: a decimal number is expected"))?;
    let net_id = net_id.parse().map_err(|_| (400, "parameter net_id is not a decimal number"))?;
    let user = value("user_pkey_hash").ok_or((400, "parameter user_pkey_hash is missing: a hash is expected"))?;
    let fits = !user.is_empty() && user.len() <= 128 && user.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !fits {
        return Err((400, "parameter user_pkey_hash is not a hash"));
    }
    Ok((net_id, user.to_owned()))
}

fn limits(net_id: u64, user: &str) -> Result<String, Refusal> {
    let net = Net::by_id(net_id).ok_or((404, "no such network"))?;
    let server = http::receipt_key_hash()
        .ok_or((503, "this node has no certificate to sign receipts with ([srv_vpn] receipt_sign_cert)"))?;
    // A session's meter, then the table, then the store know best.
    let client = decode_hash(user).map(|key| Client { key, net: net_id });
    let live = client.and_then(|client| super::rest_of(&client));
    let stored = || super::billing::stored(&net, &client?.key);
    let Rest { bytes, seconds } = live.or_else(stored).unwrap_or_default();
    Ok(format!(
        "{{ \"net_id\": {net_id}, \"srv_uid\": 1, \"user_pkey_hash\": \"{user}\", \"server_pkey_hash\": \"{server}\", \
         \"limit_bytes\": {bytes}, \"limit_sec\": {seconds} }}"
    ))
}

/// Reads "0x" and 64 hex digits.
fn decode_hash(text: &str) -> Option<[u8; 32]> {
    parse_hash(text.strip_prefix("0x")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_order_and_foreign_parameters() {
        for query in
            ["net_id=7&user_pkey_hash=0xAB", "user_pkey_hash=0xAB&net_id=7", "x&net_id=7&y=1&user_pkey_hash=0xAB"]
        {
            assert_eq!(parse(query.as_bytes()), Ok((7, "0xAB".to_owned())), "{query}");
        }
    }

    #[test]
    fn invalid_parameters_return_400() {
        let long = format!("net_id=7&user_pkey_hash={}", "a".repeat(129));
        let queries: [&[u8]; 8] = [
            b"",
            b"net_id=7",
            b"user_pkey_hash=0xAB",
            b"net_id=&user_pkey_hash=0xAB",
            b"net_id=-1&user_pkey_hash=0xAB",
            b"net_id=7&user_pkey_hash=",
            b"net_id=7&user_pkey_hash=\"}",
            b"\xff\xfe",
        ];
        for query in queries.into_iter().chain([long.as_bytes()]) {
            assert_eq!(parse(query).err().map(|(status, _)| status), Some(400), "{:?}", String::from_utf8_lossy(query));
        }
    }

    #[test]
    fn hashes_are_66_characters() {
        assert_eq!(decode_hash(&format!("0x{}", "0A".repeat(32))), Some([10; 32]));
        for text in ["", "0x", &"0A".repeat(32), &format!("0x{}", "0A".repeat(31)), &format!("0x{}", "0G".repeat(32))] {
            assert_eq!(decode_hash(text), None, "{text}");
        }
    }
}
