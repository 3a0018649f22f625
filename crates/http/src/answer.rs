//! The head of an answer.

use std::fmt::Write;

/// Returns the head of an answer after which the connection closes. `fields` are further header lines; the caller makes
/// sure of each value by [`is_field_value`].
pub fn head<'a>(
    status: u16,
    mime: &str,
    length: usize,
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut text =
        format!("HTTP/1.1 {status} {}\r\nContent-Type: {mime}\r\nContent-Length: {length}\r\n", reason(status));
    for (name, value) in fields {
        // A String takes everything.
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("Connection: close\r\n\r\n");
    text
}

/// Returns a whole answer that has its status alone to say. `methods` are those that a status of 405 names.
pub fn refusal(status: u16, methods: &str) -> String {
    let text = reason(status);
    let allow = (status == 405).then_some(("Allow", methods));
    format!("{}{text}\n", head(status, "text/plain", text.len() + 1, allow))
}

/// Whether the text is valid in a header line.
pub fn is_field_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Returns the text beside a status.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_its_fields() {
        assert_eq!(
            head(200, "text/x", 3, [("Cache-Control", "no-store")]),
            "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 3\r\nCache-Control: no-store\r\n\
             Connection: close\r\n\r\n"
        );
        assert_eq!(
            refusal(405, "GET, HEAD"),
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain\r\nContent-Length: 19\r\nAllow: GET, HEAD\r\n\
             Connection: close\r\n\r\nMethod Not Allowed\n"
        );
        assert!(!is_field_value("a\r\nb") && !is_field_value("") && is_field_value("text/plain; charset=utf-8"));
    }
}
