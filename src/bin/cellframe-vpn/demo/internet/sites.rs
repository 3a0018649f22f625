//! What the Internet of the demo offers: a web server, which tells each visitor its address, and a name server, which
//! knows the web server's.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use serde_json::{Value, json};
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, QTYPE, RCODE, ResourceRecord, SimpleDnsError, TYPE};

use super::hosts::{AROUND, AROUND6, NAME_SERVER, ROUTER, WEB, WEB6};
use crate::exit::Failure;

/// The web server's name. `example` is reserved for such uses (RFC 2606).
pub(super) const NAME: &str = "www.demo.example";
/// Bytes of an HTTP line, and of a DNS query, that are read at most.
const LONGEST: usize = 4096;

/// Starts both servers on their threads. They run as long as the process.
pub(super) fn open(has_ipv6: bool) -> Result<(), Failure> {
    let failed = |error| Failure::general(format!("the demo's Internet cannot open its servers: {error}"));
    let web = [IpAddr::V4(WEB), IpAddr::V4(AROUND), IpAddr::V6(WEB6), IpAddr::V6(AROUND6)];
    for address in web.into_iter().filter(|address| address.is_ipv4() || has_ipv6) {
        let listener = TcpListener::bind((address, 80)).map_err(failed)?;
        let accept = move || {
            for visitor in listener.incoming().flatten() {
                let _ = thread::Builder::new().name("demo-web".into()).spawn(move || serve(&visitor));
            }
        };
        thread::Builder::new().name("demo-web".into()).spawn(accept).map_err(failed)?;
    }
    for address in [NAME_SERVER, AROUND, ROUTER] {
        let socket = UdpSocket::bind((address, 53)).map_err(failed)?;
        let answer = move || {
            let mut query = [0; LONGEST];
            loop {
                // An error of an earlier answer is reported here; it is not this socket's end.
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                if let Ok(reply) = answer(&query[..length], has_ipv6) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        };
        thread::Builder::new().name("demo-names".into()).spawn(answer).map_err(failed)?;
    }
    Ok(())
}

/// Answers each request on this connection with the visitor's address and the request's number, until it is closed.
fn serve(visitor: &TcpStream) -> io::Result<()> {
    let you = visitor.peer_addr()?.to_string();
    let mut requests = BufReader::new(visitor);
    for number in 1.. {
        if read_head(&mut requests)?.is_none() {
            break;
        }
        let body = json!({"you": you, "request": number}).to_string();
        let length = body.len();
        let mut visitor = visitor;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        visitor.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())?;
    }
    Ok(())
}

/// Requests the page; [`read_page`] has its answer.
pub(super) fn request_page(mut connection: &TcpStream) -> io::Result<()> {
    connection.write_all(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n").as_bytes())
}

/// Reads one page of the web server.
pub(super) fn read_page(mut connection: &TcpStream) -> io::Result<Value> {
    // It has no buffer: another page may follow on this connection.
    let mut reader = BufReader::with_capacity(1, &mut connection);
    let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "the web server has closed the connection");
    let head = read_head(&mut reader)?.ok_or_else(closed)?;
    let length = head.iter().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    let length: usize = length.filter(|length| *length <= LONGEST).ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; length];
    io::Read::read_exact(&mut reader, &mut body)?;
    serde_json::from_slice(&body).map_err(io::Error::from)
}

/// Reads the lines up to an empty one; `None` if the connection ends before.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let is_whole = io::Read::take(&mut *reader, LONGEST as u64).read_line(&mut line)? > 0 && line.ends_with('\n');
        match line.trim_end() {
            _ if !is_whole || lines.len() > 64 => return Ok(None),
            "" => return Ok(Some(lines)),
            text => lines.push(text.to_owned()),
        }
    }
}

/// Asks a name server for the web server's address, in the bytes of a query.
pub(super) fn query() -> Result<Vec<u8>, SimpleDnsError> {
    let mut query = Packet::new_query(1);
    let name = simple_dns::Name::new(NAME)?;
    query.questions.push(simple_dns::Question::new(name, TYPE::A.into(), CLASS::IN.into(), false));
    query.build_bytes_vec()
}

/// Whether this answers [`query`] with the web server's address.
pub(super) fn names_the_web_server(reply: &[u8]) -> bool {
    let is_it = |record: &ResourceRecord<'_>| matches!(&record.rdata, RData::A(a) if Ipv4Addr::from(a.address) == WEB);
    Packet::parse(reply).is_ok_and(|reply| reply.answers.iter().any(is_it))
}

fn answer(query: &[u8], has_ipv6: bool) -> Result<Vec<u8>, SimpleDnsError> {
    const TTL: u32 = 1;
    let mut reply = Packet::parse(query)?.into_reply();
    reply.additional_records.clear();
    *reply.opt_mut() = None;
    let Some(question) = reply.questions.first().cloned() else { return reply.build_bytes_vec() };
    if !question.qname.to_string().eq_ignore_ascii_case(NAME) {
        *reply.rcode_mut() = RCODE::NameError;
        return reply.build_bytes_vec();
    }
    let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data);
    match question.qtype {
        QTYPE::TYPE(TYPE::A) => reply.answers.push(record(RData::A(A::from(WEB)))),
        QTYPE::TYPE(TYPE::AAAA) if has_ipv6 => reply.answers.push(record(RData::AAAA(AAAA::from(WEB6)))),
        _ => {}
    }
    reply.build_bytes_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_server_knows_one_name() {
        let reply = answer(&query().unwrap(), true).unwrap();
        assert!(names_the_web_server(&reply));
        assert!(!names_the_web_server(&query().unwrap()), "a question is no answer");
        let mut other = Packet::parse(&reply).unwrap();
        other.questions[0].qname = simple_dns::Name::new("other.example").unwrap();
        let bytes = answer(&other.build_bytes_vec().unwrap(), true).unwrap();
        let reply = Packet::parse(&bytes).unwrap();
        assert_eq!(reply.rcode(), RCODE::NameError);
        assert!(answer(b"no DNS", true).is_err());
    }

    #[test]
    fn one_connection_has_many_pages() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let visitor = listener.accept().unwrap().0;
        let server = thread::spawn(move || serve(&visitor));
        for _ in 0..2 {
            request_page(&connection).unwrap();
        }
        let pages = [1, 2].map(|_| read_page(&connection).unwrap());
        assert_eq!(pages.each_ref().map(|page| page["request"].as_u64()), [Some(1), Some(2)]);
        assert_eq!(pages[0]["you"], connection.local_addr().unwrap().to_string());
        drop(connection);
        server.join().unwrap().unwrap();
    }
}
