//! The first bytes inside TLS: the channels that the client requests, and the server's answer. See docs/stream.md.

use crate::ctypes::DAP_STREAM_CHANNELS_MAX;

const MAGIC: [u8; 4] = *b"CFVS";
const VERSION: u8 = 1;
/// Length of the answer, bytes.
pub const ANSWER_LEN: usize = 6;

/// The server's answer to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The channels are open.
    Ok = 0,
    /// The hello is malformed, has another version, or names no letter, too many letters, or one letter twice.
    BadHello = 1,
    /// The server does not offer one of the channels.
    NoSuchChannel = 2,
}

impl Status {
    /// The errno with which the client's attempt fails. Time heals neither refusal: the server is another service, or
    /// another version of this one.
    pub fn errno(self) -> i32 {
        match self {
            Self::BadHello | Self::NoSuchChannel => libc::EPROTO,
            // A channel is not registered at this end any more.
            Self::Ok => libc::ECONNREFUSED,
        }
    }
}

/// The state of a message after the bytes received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// Valid so far.
    Incomplete,
    /// Invalid.
    Bad,
    /// The message and its length.
    Complete(T, usize),
}

/// The client's hello. `channels` are 1 to 15 distinct letters (see [`are_valid`]).
pub fn encode(channels: &[u8]) -> Vec<u8> {
    let mut hello = Vec::with_capacity(6 + channels.len());
    hello.extend_from_slice(&MAGIC);
    hello.push(VERSION);
    hello.push(channels.len() as u8);
    hello.extend_from_slice(channels);
    hello
}

/// Parses a hello into its channels, in the client's order.
pub fn parse(bytes: &[u8]) -> Parsed<Vec<u8>> {
    if !begins_right(bytes) {
        return Parsed::Bad;
    }
    let Some(&count) = bytes.get(5) else { return Parsed::Incomplete };
    let end = 6 + usize::from(count);
    if count == 0 || usize::from(count) > DAP_STREAM_CHANNELS_MAX {
        return Parsed::Bad;
    }
    let Some(channels) = bytes.get(6..end) else { return Parsed::Incomplete };
    if are_valid(channels) { Parsed::Complete(channels.to_vec(), end) } else { Parsed::Bad }
}

/// The server's answer.
pub fn encode_answer(status: Status) -> [u8; ANSWER_LEN] {
    let [a, b, c, d] = MAGIC;
    [a, b, c, d, VERSION, status as u8]
}

/// Parses the server's answer.
pub fn parse_answer(bytes: &[u8]) -> Parsed<Status> {
    if !begins_right(bytes) {
        return Parsed::Bad;
    }
    match bytes.get(5) {
        None => Parsed::Incomplete,
        Some(0) => Parsed::Complete(Status::Ok, ANSWER_LEN),
        Some(1) => Parsed::Complete(Status::BadHello, ANSWER_LEN),
        Some(2) => Parsed::Complete(Status::NoSuchChannel, ANSWER_LEN),
        Some(_) => Parsed::Bad,
    }
}

/// True for 1 to 15 ASCII letters without duplicates.
pub fn are_valid(channels: &[u8]) -> bool {
    (1..=DAP_STREAM_CHANNELS_MAX).contains(&channels.len())
        && channels.iter().enumerate().all(|(index, letter)| {
            letter.is_ascii_alphabetic() && !channels.iter().take(index).any(|other| other == letter)
        })
}

fn begins_right(bytes: &[u8]) -> bool {
    let wanted = [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION];
    bytes.iter().zip(wanted).all(|(byte, wanted)| *byte == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_and_number_of_channels_goes_through() {
        for channels in ["RS", "SR", "R", "S", "ABCDEFGHIJKLMNO"] {
            let hello = encode(channels.as_bytes());
            for cut in 0..hello.len() {
                assert_eq!(parse(&hello[..cut]), Parsed::Incomplete, "{channels} cut at {cut}");
            }
            let mut with_more = hello.clone();
            with_more.push(7);
            assert_eq!(parse(&with_more), Parsed::Complete(channels.as_bytes().to_vec(), hello.len()));
        }
    }

    #[test]
    fn a_refused_hello_is_another_protocol() {
        for refusal in [1, 2] {
            let mut answer = encode_answer(Status::Ok);
            answer[5] = refusal;
            let Parsed::Complete(status, ANSWER_LEN) = parse_answer(&answer) else { panic!("{refusal}") };
            assert_eq!(status.errno(), libc::EPROTO, "{refusal}");
        }
    }

    #[test]
    fn bad_hellos() {
        for bad in [
            &b"X"[..],
            b"CFVT\x01\x01R",
            b"CFVS\x02\x01R",
            b"CFVS\x01\x00",
            b"CFVS\x01\x10",
            b"CFVS\x01\x02RR",
            b"CFVS\x01\x01\x00",
            b"CFVS\x01\x01\xff",
        ] {
            assert_eq!(parse(bad), Parsed::Bad, "{bad:?}");
        }
    }

    #[test]
    fn answers() {
        for status in [Status::Ok, Status::BadHello, Status::NoSuchChannel] {
            let answer = encode_answer(status);
            assert_eq!(parse_answer(&answer), Parsed::Complete(status, ANSWER_LEN));
            assert_eq!(parse_answer(&answer[..5]), Parsed::Incomplete);
        }
        assert_eq!(parse_answer(b"CFVS\x01\x03"), Parsed::Bad);
        assert_eq!(parse_answer(b"HTTP"), Parsed::Bad);
    }
}
