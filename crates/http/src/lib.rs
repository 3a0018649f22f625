//! Heads of HTTP/1.1 requests and answers, for a few pages with one request to a connection.
//!
//! Nothing here reads a socket or a clock: the caller collects bytes until [`parse`] returns a whole head, and bounds
//! their number and the time.
#![forbid(unsafe_code)]

mod answer;
mod request;

pub use answer::{head, is_field_value, reason, refusal};
pub use request::{BODY_MAX, HEAD_MAX, Head, Method, PART_MAX, Parsed, parse};
