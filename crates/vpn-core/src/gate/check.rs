//! CHECK_REQUEST: data to the server and back.

use crate::wire::{Check, ServiceError, error_code};

/// The answer to a CHECK_REQUEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckAnswer {
    /// CHECK_RESPONSE with this message.
    Response(Vec<u8>),
    /// ERROR.
    Error(ServiceError),
}

/// Answers a CHECK_REQUEST with at most `limit` bytes of data each way. `fill` fills the reply's data with random bytes
/// and returns false on failure; `now` returns nanoseconds of Unix time.
///
/// As the SDK does: the hash of no data is not compared, and a client that wants no data gets its own back.
pub fn answer_check(
    packet: &[u8],
    limit: usize,
    fill: impl FnOnce(&mut [u8]) -> bool,
    now: impl Fn() -> u64,
) -> CheckAnswer {
    let received = now();
    let refuse = |check: &Check, code| {
        let Check { net_id, srv_uid, usage_id, .. } = *check;
        CheckAnswer::Error(ServiceError { net_id, srv_uid, usage_id, code })
    };
    let Ok((mut check, data)) = Check::parse(packet) else {
        return refuse(&Check::default(), error_code::WRONG_SIZE);
    };
    let wanted = usize::try_from(check.data_size_recv).unwrap_or(usize::MAX);
    if data.len() > limit || wanted > limit {
        return refuse(&check, error_code::BIG_SIZE);
    }
    if !data.is_empty() && Check::hash(data) != check.data_hash {
        return refuse(&check, error_code::WRONG_HASH);
    }
    let mut reply = if wanted == 0 { data.to_vec() } else { vec![0; wanted] };
    if wanted > 0 && !fill(&mut reply) {
        return refuse(&check, error_code::UNKNOWN);
    }
    check.err_code = 0;
    check.data_hash = Check::hash(&reply);
    check.recv_time2 = received;
    check.send_time2 = now();
    CheckAnswer::Response(check.encode(&reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 65_536;

    fn answer(packet: &[u8]) -> CheckAnswer {
        let fill = |data: &mut [u8]| {
            data.fill(7);
            true
        };
        answer_check(packet, LIMIT, fill, || 5)
    }

    fn request(data: &[u8], wanted: u64) -> Vec<u8> {
        Check { srv_uid: 1, data_hash: Check::hash(data), data_size_recv: wanted, ..Check::default() }.encode(data)
    }

    #[test]
    fn more_may_be_requested_than_is_sent() {
        let CheckAnswer::Response(message) = answer(&request(b"", 10_000)) else { panic!("refused") };
        let (check, data) = Check::parse(&message).expect("a response");
        assert_eq!((data, check.data_hash), ([7; 10_000].as_slice(), Check::hash(data)));
        assert_eq!((check.recv_time2, check.send_time2), (5, 5));
    }

    #[test]
    fn a_client_that_wants_no_data_gets_its_own_back() {
        let CheckAnswer::Response(message) = answer(&request(b"abc", 0)) else { panic!("refused") };
        assert_eq!(Check::parse(&message).map(|(_, data)| data), Ok(b"abc".as_slice()));
        let unhashed = Check { srv_uid: 1, ..Check::default() }.encode(b"");
        assert!(matches!(answer(&unhashed), CheckAnswer::Response(_)));
    }

    #[test]
    fn refusals_name_their_cause() {
        let code = |packet: &[u8]| match answer(packet) {
            CheckAnswer::Error(error) => error.code,
            CheckAnswer::Response(_) => 0,
        };
        let good = request(b"abc", 3);
        assert_eq!(code(&good), 0);
        assert_eq!(code(&good[..100]), error_code::WRONG_SIZE);
        assert_eq!(code(&[good.as_slice(), b"x"].concat()), error_code::WRONG_SIZE);
        assert_eq!(code(&request(b"abc", 65_537)), error_code::BIG_SIZE);
        assert_eq!(code(&request(&vec![0; 65_537], 1)), error_code::BIG_SIZE);
        let mut wrong = good;
        wrong[600] ^= 1;
        assert_eq!(code(&wrong), error_code::WRONG_HASH);
    }
}
