//! CHECK_REQUEST.

use crate::billing::fault::{Fault, record};
use crate::billing::{At, CHANNEL};
use crate::services;
use std::time::{SystemTime, UNIX_EPOCH};
use vpn_core::wire::{Check, ServiceError, error_code, pkt};

/// Most bytes of data, each way.
const DATA_MAX: u64 = 10_240;
/// Where the message states the size of its data.
const SIZE_AT: usize = 588;

/// Answers a CHECK_REQUEST.
pub(super) fn check(at: &At, data: &[u8]) {
    let Some((fixed, payload)) = data.split_at_checked(Check::LEN) else {
        return host::log_bounded!(Warn, "dropped a CHECK_REQUEST of {} bytes", data.len());
    };
    // With its size set to 0 the fixed part is a whole message.
    let stated = fixed[SIZE_AT..].first_chunk::<8>().map_or(0, |size| u64::from_le_bytes(*size));
    let mut bare = fixed.to_vec();
    bare[SIZE_AT..SIZE_AT + 8].fill(0);
    let Ok((mut check, _)) = Check::parse(&bare) else { return };
    let refuse = |code| {
        let error = ServiceError { code, ..ServiceError::default() }.encode();
        at.conn.write_packet(&at.worker, CHANNEL, pkt::ERROR, &error);
    };
    if services::find(check.srv_uid).is_none() {
        return refuse(error_code::SERVICE_NOT_FOUND);
    }
    if stated > DATA_MAX || check.data_size_recv > DATA_MAX {
        return refuse(error_code::BIG_SIZE);
    }
    if payload.len() as u64 != stated {
        return refuse(error_code::WRONG_SIZE);
    }
    if stated > 0 && Check::hash(payload) != check.data_hash {
        return refuse(error_code::WRONG_HASH);
    }
    let mut reply = payload.to_vec();
    if check.data_size_recv > 0 {
        // The answer is written where the question is, unless the client says that it sends nothing.
        if check.data_size_send != 0 && check.data_size_recv > stated {
            record(Fault::CheckOverrun);
        }
        reply.resize(usize::try_from(check.data_size_recv).unwrap_or(0), 0);
        if aws_lc_rs::rand::fill(&mut reply).is_err() {
            return;
        }
        check.data_hash = Check::hash(&reply);
    }
    check.err_code = 0;
    check.recv_time2 =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos().try_into().unwrap_or(u64::MAX));
    at.conn.write_packet(&at.worker, CHANNEL, pkt::CHECK_RESPONSE, &check.encode(&reply));
}
