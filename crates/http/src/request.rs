//! The head of a request.

/// The most bytes of request line and headers together.
pub const HEAD_MAX: usize = 16 << 10;
/// The most bytes of a path, and of a query: what C's buffers of 1024 hold.
pub const PART_MAX: usize = 1023;
/// The largest body, in bytes.
pub const BODY_MAX: u64 = 64 << 10;
const HEADERS_MAX: usize = 64;

/// A method that a page may be asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Asks for the page.
    Get,
    /// Asks for the head of the answer alone.
    Head,
    /// Sends a body.
    Post,
}

/// What the bytes of a peer are so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The head goes on. More than [`HEAD_MAX`] bytes of it deserve status 431.
    Partial,
    /// No request that is answered; the status says why.
    Bad(u16),
    /// A whole head. What follows it is its body.
    Whole(Head<'a>),
}

/// The head of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The bytes of the head.
    pub size: usize,
    /// The bytes of the body that follows; 0 for a chunked one.
    pub body_size: u64,
    /// The method.
    pub method: Method,
    /// The path as sent; it begins with `/`.
    pub path: &'a str,
    /// What follows the `?`, as sent; empty if there is none.
    pub query: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Head<'a> {
    /// Returns the values of the headers with this name, in any case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(has, _)| has.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// Returns the value of the only header with this name; `None` if there is none, several, or one that is not text.
    pub fn only(&self, name: &str) -> Option<&'a str> {
        let mut values = self.values(name);
        let value = values.next().filter(|_| values.next().is_none())?;
        std::str::from_utf8(value).ok().map(str::trim)
    }
}

/// Parses what a peer has sent so far.
///
/// ```
/// use vpn_http::{Parsed, parse};
///
/// assert_eq!(parse(b"GET /a?b HTTP/1.1\r\nHost: "), Parsed::Partial);
/// let Parsed::Whole(head) = parse(b"GET /a?b HTTP/1.1\r\nHost: c\r\n\r\n") else { panic!() };
/// assert_eq!((head.path, head.query, head.only("host")), ("/a", "b", Some("c")));
/// ```
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let size = match request.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => return Parsed::Bad(431),
        Err(_) => return Parsed::Bad(400),
    };
    if size > HEAD_MAX {
        return Parsed::Bad(431);
    }
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        _ => return Parsed::Bad(405),
    };
    let body_size = match body_size(request.headers) {
        Some(size) if size <= BODY_MAX => size,
        Some(_) => return Parsed::Bad(413),
        None => return Parsed::Bad(400),
    };
    let Some(target) = request.path.and_then(origin_form) else { return Parsed::Bad(400) };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path.len() > PART_MAX || query.len() > PART_MAX {
        return Parsed::Bad(414);
    }
    let headers = request.headers.iter().map(|header| (header.name, header.value)).collect();
    Parsed::Whole(Head { size, body_size, method, path, query, headers })
}

/// The target from its path on; a server accepts the absolute form too (RFC 9112, 3.2.2).
fn origin_form(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    Some(rest.find('/').map_or("/", |start| &rest[start..]))
}

/// The size of the body: 0 without one, and for a chunked one, which the close discards; None if the headers contradict
/// each other.
fn body_size(headers: &[httparse::Header<'_>]) -> Option<u64> {
    let mut size = None;
    for header in headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-length")) {
        let text = std::str::from_utf8(header.value).ok()?.trim();
        let value = if text.bytes().all(|digit| digit.is_ascii_digit()) { text.parse().ok()? } else { return None };
        if size.is_some_and(|size| size != value) {
            return None;
        }
        size = Some(value);
    }
    Some(size.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_that_stands_twice_is_no_only_one() {
        let Parsed::Whole(head) = parse(b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\nX: 1 \r\n\r\n") else { panic!() };
        assert_eq!((head.only("host"), head.only("x"), head.only("y")), (None, Some("1"), None));
        assert_eq!(head.values("HOST").collect::<Vec<_>>(), [b"a", b"b"]);
    }

    proptest! {
        #[test]
        fn any_head_parses(head: Vec<u8>) {
            parse(&head);
        }

        #[test]
        fn any_request_line_parses(target in "[ -~]{0,40}", header in "[ -~\r\n]{0,60}") {
            let head = format!("GET {target} HTTP/1.1\r\n{header}\r\n\r\n");
            if let Parsed::Whole(parsed) = parse(head.as_bytes()) {
                prop_assert!(parsed.path.starts_with('/') && parsed.size <= head.len());
            }
        }
    }
}
