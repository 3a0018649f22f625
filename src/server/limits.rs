//! `GET /remain_limits_vpn?net_id=<decimal>&user_pkey_hash=<hash>`: the remaining limits of a client's paid service.

use crate::sdk::net::Net;
use crate::sdk::{http, store};

/// The service's number in the names of its groups in the store.
const SERVICE: &str = "0x0000000000000001";

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
    let group = format!("local.{}.{SERVICE}.remain_limits.{server}", net.store_prefix());
    let (bytes, seconds) = store::get(&group, user).as_deref().and_then(decode).unwrap_or((0, 0));
    Ok(format!(
        "{{ \"net_id\": {net_id}, \"srv_uid\": 1, \"user_pkey_hash\": \"{user}\", \"server_pkey_hash\": \"{server}\", \
         \"limit_bytes\": {bytes}, \"limit_sec\": {seconds} }}"
    ))
}

/// The 16 bytes of `dap_stream_ch_chain_net_srv_remain_service_store_t`: bytes, then seconds, in the host's order.
fn decode(value: &[u8]) -> Option<(i64, i64)> {
    let (bytes, rest) = value.split_first_chunk::<8>()?;
    let (seconds, rest) = rest.split_first_chunk::<8>()?;
    rest.is_empty().then(|| (i64::from_ne_bytes(*bytes), i64::from_ne_bytes(*seconds)))
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
    fn a_stored_value_of_another_size_is_ignored() {
        let mut value = 5i64.to_ne_bytes().to_vec();
        assert_eq!(decode(&value), None);
        value.extend(9i64.to_ne_bytes());
        assert_eq!(decode(&value), Some((5, 9)));
        value.push(0);
        assert_eq!(decode(&value), None);
    }
}
