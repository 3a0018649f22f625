//! Whether the host's links have IPv6, as the kernel's files in /proc/sys/net/ipv6/conf say.
//!
//! All functions act on the network namespace of the calling thread.

use std::fs;
use std::io;

const LINKS: &str = "/proc/sys/net/ipv6/conf";
/// Entries of that directory that are no link: what is set on all links, and what a new link starts with.
const NO_LINKS: [&str; 2] = ["all", "default"];

/// Whether a link other than `name` and loopback has IPv6. False where the kernel has none at all.
///
/// # Errors
/// If the directory or a file in it cannot be read. A link that vanishes meanwhile is no error.
pub fn is_used_beside(name: &str) -> io::Result<bool> {
    let entries = match fs::read_dir(LINKS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let link = entry?.file_name();
        let Some(link) = link.to_str() else { continue };
        if link != "lo" && link != name && !NO_LINKS.contains(&link) && has_ipv6(link)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the link has IPv6. False where there is no such link, or no IPv6 on it: the kernel has none on a link with an
/// MTU below 1280.
///
/// # Errors
/// If the file cannot be read.
pub fn has_ipv6(link: &str) -> io::Result<bool> {
    match fs::read_to_string(file(link, "disable_ipv6")) {
        Ok(text) => Ok(text.trim() == "0"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives the link IPv6: a link-local address, and no other, whatever routers there advertise.
///
/// # Errors
/// `NotFound` if the kernel has no IPv6 on this link, `ReadOnlyFilesystem` in many containers.
pub fn enable(link: &str) -> io::Result<()> {
    // Before the link's IPv6 starts, else it looks for routers at once.
    fs::write(file(link, "accept_ra"), "0")?;
    fs::write(file(link, "disable_ipv6"), "0")
}

fn file(link: &str, key: &str) -> String {
    format!("{LINKS}/{link}/{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_not_there_has_no_ipv6() {
        assert!(!has_ipv6("no-such-link0").unwrap());
        assert_eq!(enable("no-such-link0").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
