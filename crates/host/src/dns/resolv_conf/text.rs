//! What stands in our resolv.conf.

use std::net::Ipv4Addr;

use super::Owner;

/// What the first line of ours begins with.
const MARK: &str = "# cellframe-vpn ";
/// In the mark, if there was no file before.
const NO_FILE: &str = "no file";

/// The first line of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The process that has set it.
    pub owner: Owner,
    /// Whether there was a file before.
    pub(super) had_file: bool,
}

impl Mark {
    /// Returns the mark of a text that is ours.
    pub(super) fn of(text: &[u8]) -> Option<Mark> {
        let line = text.split(|byte| *byte == b'\n').next()?;
        let words = str::from_utf8(line).ok()?.strip_prefix(MARK)?;
        let (owner, rest) = words.split_once(' ')?;
        Some(Mark { owner: owner.parse().ok()?, had_file: !rest.ends_with(NO_FILE) })
    }
}

/// Returns our text, in the place of one that was `before`, with the name that this has now.
///
/// Of the options all stay but `trust-ad`: the tunnel's server is not known to check what it vouches for. No search domain
/// stays: names of the local network would be asked outside of it. The C library would make one of the host's name.
pub(super) fn ours(servers: &[Ipv4Addr], owner: &Owner, before: Option<(&str, &[u8])>) -> Vec<u8> {
    let (file, before) = before.unwrap_or((NO_FILE, b""));
    let mut text = format!(
        "{MARK}{owner} has set the name servers of its tunnel; the file before: {file}\n\
         # `cellframe-vpn repair` puts it back if that process is gone. What is written here is lost.\n"
    );
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text.push_str("search .\n");
    for line in String::from_utf8_lossy(before).lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("options") {
            let options: Vec<_> = words.filter(|option| *option != "trust-ad").collect();
            if !options.is_empty() {
                text.push_str(&format!("options {}\n", options.join(" ")));
            }
        }
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stay_and_search_domains_go() {
        let before = "search corp.example\nnameserver 192.0.2.1\noptions edns0 trust-ad\n# options x\noptions trust-ad\n\
                      options ndots:2\n";
        let text =
            ours(&[[10, 98, 0, 1].into(), [9, 9, 9, 9].into()], &Owner::this(), Some(("file", before.as_bytes())));
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = ["nameserver 10.98.0.1", "nameserver 9.9.9.9", "search .", "options edns0", "options ndots:2"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn only_our_first_line_is_a_mark() {
        let (this, server) = (Owner::this(), [[10, 98, 0, 1].into()]);
        let mark = |before: Option<(&str, &[u8])>| Mark::of(&ours(&server, &this, before)).unwrap();
        assert_eq!(mark(Some(("file", b""))), Mark { owner: this.clone(), had_file: true });
        assert_eq!(mark(None), Mark { owner: this.clone(), had_file: false });
        let text = ours(&server, &this, None);
        for other in [&b""[..], b"nameserver 10.0.0.1\n", &text[1..], &[b"\n", &text[..]].concat(), &text[..30]] {
            assert_eq!(Mark::of(other), None);
        }
    }
}
