//! `vpn_stat -leases`: which address is whose; with `-net` without those of sessions that use another network.
//! `vpn_stat -drop <address>`: the end of the session that has one.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::names::{key, net_number};
use super::{Answer, option, value};
use crate::server;
use crate::server::lease_list::{self, LeaseInfo, LeaseState};

/// The most leases of one answer.
const MOST: usize = 10_000;

/// Runs the command if its words name one of the two.
pub(super) fn run(words: &[String]) -> Option<Answer> {
    if let Some(address) = option(words, "-drop") {
        return Some(drop_session(address));
    }
    option(words, "-leases")?;
    let net = match value(words, "-net").map(net_number).transpose() {
        Ok(net) => net,
        Err(refusal) => return Some(refusal),
    };
    let Some(mut leases) = lease_list::leases() else {
        return Some(Answer::new(-3, "the VPN service is not running"));
    };
    if let Some(net) = net {
        let others = server::listing().into_iter().filter(|session| session.net.is_some_and(|of| of != net));
        let others: HashSet<_> = others.map(|session| session.address).collect();
        leases.retain(|lease| !others.contains(&lease.address));
    }
    let text = if option(words, "-json").is_some() { as_json(&leases).to_string() } else { as_text(&leases) };
    Some(Answer::new(0, text))
}

fn drop_session(address: Option<&str>) -> Answer {
    let Some(word) = address else {
        return Answer::new(
            -1,
            "parameter -drop has no value; expected the inner address of a session, such as 10.0.0.2",
        );
    };
    let Ok(address) = word.parse::<Ipv4Addr>() else {
        return Answer::new(-1, format!("-drop {word:?}: expected the inner address of a session, such as 10.0.0.2"));
    };
    match lease_list::drop_session(address) {
        Ok(client) => {
            log::info!("session dropped by the operator: {client}");
            Answer::new(0, format!("dropped the session of {address}: {client}"))
        }
        Err(error) => Answer::new(-2, format!("-drop {address}: {error}")),
    }
}

/// Returns one word for people and programs.
fn state(lease: &LeaseInfo) -> &'static str {
    match lease.state {
        LeaseState::Leased => "leased",
        LeaseState::Kept => "kept",
        LeaseState::Reserved => "reserved",
    }
}

fn as_text(leases: &[LeaseInfo]) -> String {
    if leases.is_empty() {
        return "No VPN leases".into();
    }
    let line = |lease: &LeaseInfo| {
        let is_static = if lease.is_static { ", static" } else { "" };
        let lasts = lease.lasts.map_or_else(String::new, |time| format!(", {} s", time.as_secs()));
        let session = lease.session.as_ref();
        let session = session.map_or_else(String::new, |(peer, usage)| format!(", at {peer}, usage {usage}"));
        let client = lease.client.as_ref().map_or_else(String::new, |hash| format!(", client {}", key(hash)));
        format!("{:<15} {}{is_static}{lasts}{session}{client}\n", lease.address.to_string(), state(lease))
    };
    let mut text: String = leases.iter().take(MOST).map(line).collect();
    if leases.len() > MOST {
        text += &format!("and {} more\n", leases.len() - MOST);
    }
    text
}

fn as_json(leases: &[LeaseInfo]) -> Value {
    let lease = |lease: &LeaseInfo| {
        let (peer, usage) = lease.session.as_ref().map(|(peer, usage)| (peer, usage)).unzip();
        json!({
            "address": lease.address.to_string(),
            "state": state(lease),
            "static": lease.is_static,
            "client": lease.client.as_ref().map(key),
            "seconds": lease.lasts.map(|time| time.as_secs()),
            "peer": peer,
            "usage": usage,
        })
    };
    json!({"leases": leases.iter().take(MOST).map(lease).collect::<Vec<_>>(), "count": leases.len()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &str) -> Option<Answer> {
        super::run(&words.split(' ').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn other_words_are_another_command_s() {
        assert_eq!(run("vpn_stat -net backbone -full"), None);
    }

    #[test]
    fn an_answer_names_the_mistake() {
        let expected = "expected the inner address of a session, such as 10.0.0.2";
        let no_value = format!("parameter -drop has no value; {expected}");
        assert_eq!(run("vpn_stat -net backbone -drop"), Some(Answer::new(-1, no_value)));
        assert_eq!(run("vpn_stat -drop 10.0.0"), Some(Answer::new(-1, format!("-drop \"10.0.0\": {expected}"))));
        let stopped = Answer::new(-2, "-drop 10.0.0.2: the VPN service is not running");
        assert_eq!(run("vpn_stat -drop 10.0.0.2"), Some(stopped));
        assert_eq!(run("vpn_stat -leases -json"), Some(Answer::new(-3, "the VPN service is not running")));
    }

    #[test]
    fn a_line_for_each_lease() {
        assert_eq!(as_text(&[]), "No VPN leases");
        let address = Ipv4Addr::new(10, 0, 0, 2);
        let lasts = Some(std::time::Duration::from_secs(7));
        let kept = LeaseInfo { address, state: LeaseState::Kept, is_static: false, client: None, lasts, session: None };
        assert_eq!(as_text(std::slice::from_ref(&kept)), "10.0.0.2        kept, 7 s\n");
        let many = vec![kept; MOST + 3];
        assert!(as_text(&many).ends_with("and 3 more\n"));
        assert_eq!(
            (as_json(&many)["count"].as_u64(), as_json(&many)["leases"].as_array().map(Vec::len)),
            (Some(10_003), Some(MOST))
        );
    }
}
