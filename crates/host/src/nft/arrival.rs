//! What the tables of this network namespace do with a new TCP connection that comes to this host from elsewhere: they are
//! walked as the kernel walks them, with one packet in mind.
//!
//! Of that packet the protocol, the port and the state are known; its source and its device are not. So a condition holds,
//! or it fails, or nobody can say. A rule that refuses only some packets is passed over. One that accepts only some is
//! remembered: where everything else is refused, the connection comes through for these alone. A chain that only some are
//! sent to is walked for these.

use std::collections::HashMap;

use netlink_packet_core::{DefaultNla, Nla, Parseable};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta, MetaKey,
    NfTablesMessage, Operator, Payload, RuleAttribute, RuleMessage, SetElementAttribute, SetElementFlags,
    SetElementList, SetElementMessage, Verdict, VerdictAttribute,
};

use super::batch::ChainHook;
use super::listing::HEADER;
use super::rule::{NF_ACCEPT, NF_DROP};
use super::{Chain, Family, Nft, NftError};

/// The beginning of the names of ufw's chains.
const UFW: &str = "ufw-";
/// How deep chains may call each other; the kernel has 16.
const DEPTH_MAX: usize = 16;
/// `NF_CT_STATE_NEW_BIT` of a connection's state.
const STATE_NEW: u32 = 8;
const TCP: u8 = 6;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `NFTA_CT_KEY` with `NFT_CT_STATE` and `NFT_CT_STATUS`.
const CT_KEY: u16 = 2;
const CT_STATE: [u8; 4] = [0; 4];
const CT_STATUS: [u8; 4] = [0, 0, 0, 2];
/// Attributes of a range expression, and of the value in its ends.
const RANGE_OPERATOR: u16 = 2;
const RANGE_FROM: u16 = 3;
const RANGE_TO: u16 = 4;
const RANGE_NOT_EQUAL: [u8; 4] = [0, 0, 0, 1];
/// Attributes of a match of iptables.
const MATCH_NAME: u16 = 1;
const MATCH_INFO: u16 = 3;
/// `XT_ADDRTYPE_LOCAL`.
const ADDRESS_LOCAL: u16 = 1 << 2;
/// `NFT_LOOKUP_F_INV`.
const LOOKUP_INVERTS: u32 = 1;

/// What becomes of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It comes through.
    Passes,
    /// It comes through from some sources or devices alone.
    Perhaps(Refusal),
    /// It is refused.
    Refused(Refusal),
}

/// What refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The chain that the kernel calls.
    pub chain: Chain,
    /// The chain whose rule or policy it is: that one, or one that it calls.
    pub by: String,
    /// It is the policy, which is in force where no rule decides.
    pub is_policy: bool,
    /// The table has the chains of ufw.
    pub is_of_ufw: bool,
}

/// Returns what becomes of a new connection to this TCP port, by IPv6 or by IPv4.
///
/// # Errors
/// If the kernel has no nf_tables, or the privilege is missing.
pub fn fate(port: u16, is_ipv6: bool) -> Result<Fate, NftError> {
    let mut nft = Nft::open()?;
    let mut fate = Fate::Passes;
    for chain in nft.base_chains()? {
        let is_seen = chain.family == Family::Inet || !is_ipv6;
        if !(is_seen && chain.kind == "filter" && chain.is_at(ChainHook::Input)) {
            continue;
        }
        let rules = match nft.raw_rules(chain.family, &chain.table) {
            // It was removed meanwhile.
            Err(error) if error.errno() == Some(libc::ENOENT) => continue,
            rules => rules?,
        };
        let mut chains: HashMap<String, Vec<Vec<Expressions>>> = HashMap::new();
        for rule in rules {
            let (name, expressions) = read(rule);
            chains.entry(name).or_default().push(expressions);
        }
        // A chain without rules is known by those that jump to it.
        let is_jump = |expression: &Expressions| match expression {
            Expressions::Immediate(parts) => matches!(immediate(parts), Some(Then::Jump(to)) if to.starts_with(UFW)),
            _ => false,
        };
        let is_of_ufw =
            chains.keys().any(|name| name.starts_with(UFW)) || chains.values().flatten().flatten().any(is_jump);
        let (family, table) = (chain.family, chain.table.clone());
        let sets = &mut |set: &str| nft.elements(family, &table, set).ok();
        let mut walk = Walk { port, is_ipv6, chains: &chains, sets, is_perhaps_accepted: false, refused_rest: None };
        let end = walk.chain(&chain.name, 0);
        let is_perhaps = walk.is_perhaps_accepted || walk.refused_rest.is_some() && !chain.drops;
        let (by, is_policy) = match (end, walk.refused_rest) {
            (End::Accepted, _) => continue,
            (End::Refused(by), _) | (End::Returned, Some(by)) => (by, false),
            (End::Returned, None) if chain.drops => (chain.name.clone(), true),
            (End::Returned, None) => continue,
        };
        let refusal = Refusal { chain, by, is_policy, is_of_ufw };
        if !is_perhaps {
            return Ok(Fate::Refused(refusal));
        }
        fate = Fate::Perhaps(refusal);
    }
    Ok(fate)
}

/// An element of a set: its key, whether an interval ends before it, and a map's verdict.
#[derive(Clone, Debug)]
struct Element {
    key: Vec<u8>,
    is_end: bool,
    verdict: Option<Then>,
}

/// The verdict of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    Accept,
    Refuse,
    Jump(String),
    Goto(String),
    Return,
}

/// How a chain ends for the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Accepted,
    /// By a rule of this chain.
    Refused(String),
    Returned,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Perhaps,
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Holds {
        if holds { Holds::Yes } else { Holds::No }
    }
}

/// What is in the register.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Loaded {
    Known(Vec<u8>),
    /// The device by which the packet has come: any but loopback.
    Device,
    /// Its index.
    DeviceIndex,
    Unknown,
}

struct Walk<'a> {
    port: u16,
    is_ipv6: bool,
    chains: &'a HashMap<String, Vec<Vec<Expressions>>>,
    sets: &'a mut dyn FnMut(&str) -> Option<Vec<Element>>,
    /// A rule has been passed that accepts some.
    is_perhaps_accepted: bool,
    /// What refuses all but those that have left the first chain before, for whom its policy is.
    refused_rest: Option<String>,
}

impl Walk<'_> {
    fn chain(&mut self, name: &str, depth: usize) -> End {
        let chains = self.chains;
        let Some(rules) = chains.get(name).filter(|_| depth < DEPTH_MAX) else { return End::Returned };
        // Those that have left the chain do not meet what refuses the others.
        let mut have_some_left = false;
        for rule in rules {
            let (holds, then) = self.rule(rule);
            let Some(then) = then.filter(|_| holds != Holds::No) else { continue };
            // How it ends for those for whom the rule is.
            let end = match &then {
                Then::Accept => End::Accepted,
                Then::Refuse => End::Refused(name.to_owned()),
                Then::Return => End::Returned,
                Then::Jump(to) | Then::Goto(to) => self.chain(to, depth + 1),
            };
            let is_for_all = holds == Holds::Yes;
            match end {
                End::Returned if matches!(then, Then::Jump(_)) => {}
                End::Accepted if !is_for_all => self.is_perhaps_accepted = true,
                End::Refused(_) if !is_for_all => {}
                End::Returned if !is_for_all => have_some_left = true,
                End::Refused(by) if have_some_left => {
                    self.refused_rest = Some(by).filter(|_| depth == 0);
                    return End::Returned;
                }
                end => return end,
            }
        }
        End::Returned
    }

    fn rule(&mut self, expressions: &[Expressions]) -> (Holds, Option<Then>) {
        let (mut loaded, mut holds, mut then) = (Loaded::Unknown, Holds::Yes, None);
        for expression in expressions {
            let condition = match expression {
                Expressions::Payload(parts) => {
                    loaded = self.payload(parts);
                    Holds::Yes
                }
                Expressions::Meta(parts) => {
                    loaded = self.meta(parts);
                    Holds::Yes
                }
                Expressions::Bitwise(parts) => {
                    loaded = masked(parts, &loaded);
                    Holds::Yes
                }
                Expressions::Cmp(parts) => compare(parts, &loaded),
                Expressions::Lookup(parts) => {
                    let (condition, verdict) = self.look_up(parts, &loaded);
                    then = verdict.or(then);
                    condition
                }
                Expressions::Immediate(parts) => {
                    then = immediate(parts).or(then);
                    Holds::Yes
                }
                Expressions::Other { expression_type, attributes } => match expression_type.as_str() {
                    "ct" => {
                        loaded = match attribute(attributes, CT_KEY) {
                            Some(key) if key == CT_STATE => Loaded::Known(STATE_NEW.to_ne_bytes().to_vec()),
                            // It is not translated.
                            Some(key) if key == CT_STATUS => Loaded::Known(vec![0; 4]),
                            _ => Loaded::Unknown,
                        };
                        Holds::Yes
                    }
                    "range" => in_range(attributes, &loaded),
                    "match" => self.matches(attributes),
                    "target" => {
                        let is_reject = attribute(attributes, MATCH_NAME).is_some_and(|name| text(&name) == "REJECT");
                        then = if is_reject { Some(Then::Refuse) } else { then };
                        Holds::Yes
                    }
                    "reject" => {
                        then = Some(Then::Refuse);
                        Holds::Yes
                    }
                    // A program behind the queue decides.
                    "queue" => {
                        then = Some(Then::Accept);
                        Holds::Perhaps
                    }
                    "counter" | "log" => Holds::Yes,
                    "fib" | "socket" | "rt" | "hash" | "numgen" | "osf" | "exthdr" => {
                        loaded = Loaded::Unknown;
                        Holds::Yes
                    }
                    _ => Holds::Perhaps,
                },
                _ => Holds::Perhaps,
            };
            match condition {
                Holds::No => return (Holds::No, None),
                Holds::Perhaps => holds = Holds::Perhaps,
                Holds::Yes => {}
            }
        }
        (holds, then)
    }

    fn payload(&self, parts: &[Payload]) -> Loaded {
        let number = |of: fn(&Payload) -> Option<u32>| parts.iter().find_map(of);
        let base = number(|part| if let Payload::Base(base) = part { Some(*base) } else { None });
        let offset = number(|part| if let Payload::Offset(offset) = part { Some(*offset) } else { None });
        let length = number(|part| if let Payload::Len(length) = part { Some(*length) } else { None });
        match (base, offset, length) {
            (Some(1), Some(9), Some(1)) if !self.is_ipv6 => Loaded::Known(vec![TCP]),
            (Some(1), Some(6), Some(1)) if self.is_ipv6 => Loaded::Known(vec![TCP]),
            (Some(2), Some(2), Some(2)) => Loaded::Known(self.port.to_be_bytes().to_vec()),
            _ => Loaded::Unknown,
        }
    }

    fn meta(&self, parts: &[Meta]) -> Loaded {
        let key = parts.iter().find_map(|part| if let Meta::Key(key) = part { Some(*key) } else { None });
        match key {
            Some(MetaKey::L4Proto) => Loaded::Known(vec![TCP]),
            Some(MetaKey::Nfproto) => Loaded::Known(vec![if self.is_ipv6 { IPV6 } else { IPV4 }]),
            Some(MetaKey::Iifname) => Loaded::Device,
            Some(MetaKey::Iif) => Loaded::DeviceIndex,
            // Packets have none by themselves.
            Some(MetaKey::Mark) => Loaded::Known(vec![0; 4]),
            _ => Loaded::Unknown,
        }
    }

    fn look_up(&mut self, parts: &[Lookup], loaded: &Loaded) -> (Holds, Option<Then>) {
        let set = parts.iter().find_map(|part| if let Lookup::Set(set) = part { Some(set) } else { None });
        let is_map = parts.iter().any(|part| matches!(part, Lookup::DestinationRegister(_)));
        let inverts = parts.iter().any(|part| matches!(part, Lookup::Flags(flags) if flags & LOOKUP_INVERTS != 0));
        let Some(elements) = set.and_then(|set| (self.sets)(set)) else { return (Holds::Perhaps, None) };
        let Loaded::Known(value) = loaded else {
            // By which way it goes nobody can say; what is of use is whether some are accepted.
            let accepts = |element: &Element| element.verdict == Some(Then::Accept);
            let then = (is_map && elements.iter().any(accepts)).then_some(Then::Accept);
            return (Holds::Perhaps, then);
        };
        if elements.iter().any(|element| element.key.len() != value.len()) {
            return (Holds::Perhaps, None);
        }
        let found = find(&elements, value);
        match (is_map, found) {
            (true, found) => (found.is_some().into(), found.and_then(|element| element.verdict.clone())),
            (false, found) => ((found.is_some() != inverts).into(), None),
        }
    }

    /// A match of iptables: those of ports and of the connection's state are read.
    fn matches(&self, attributes: &[DefaultNla]) -> Holds {
        let (Some(name), Some(info)) = (attribute(attributes, MATCH_NAME), attribute(attributes, MATCH_INFO)) else {
            return Holds::Perhaps;
        };
        let half = |at: usize| info.get(at..at + 2).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
        match text(&name) {
            // struct xt_tcp: the first and the last source port, those of the destination, and what is inverted.
            "tcp" => match (half(0), half(2), half(4), half(6), info.get(11)) {
                (Some(0), Some(u16::MAX), Some(first), Some(last), Some(inverted)) => {
                    ((first..=last).contains(&self.port) != (inverted & 2 != 0)).into()
                }
                _ => Holds::Perhaps,
            },
            "multiport" => multiport(&info, self.port).map_or(Holds::Perhaps, Holds::from),
            "udp" | "udplite" | "icmp" | "icmp6" | "sctp" | "dccp" => Holds::No,
            // struct xt_conntrack_mtinfo3: what is looked at, what is inverted, and the states; 1 is the state alone.
            "conntrack" => match (half(146), half(148), half(150)) {
                (Some(1), Some(inverted), Some(states)) => {
                    ((u32::from(states) & STATE_NEW != 0) != (inverted & 1 != 0)).into()
                }
                _ => Holds::Perhaps,
            },
            // struct xt_addrtype_info_v1: kinds of sources, and of destinations; the connection is to this host.
            "addrtype" => match (half(0), half(2), info.get(4..8)) {
                (Some(0), Some(kinds), Some([0, 0, 0, 0])) => (kinds & ADDRESS_LOCAL != 0).into(),
                _ => Holds::Perhaps,
            },
            "comment" => Holds::Yes,
            _ => Holds::Perhaps,
        }
    }
}

/// Whether a match "multiport" of destinations has the port; `None` for one of other ports. struct xt_multiport_v1: the
/// kind, the number of ports, fifteen ports, fifteen flags that say where a range begins, and whether it is inverted.
fn multiport(info: &[u8], port: u16) -> Option<bool> {
    const DESTINATIONS: u8 = 1;
    let (&[kind, count], rest) = info.split_first_chunk()?;
    let ports = rest.get(..30)?.chunks_exact(2).map(|two| u16::from_ne_bytes([two[0], two[1]]));
    let ports: Vec<_> = ports.take(count.into()).collect();
    let (begins, &inverts) = (rest.get(30..45)?, rest.get(45)?);
    let mut has = false;
    let mut at = 0;
    while let Some(&first) = ports.get(at) {
        let is_range = begins.get(at).is_some_and(|begins| *begins != 0);
        let last = if is_range { *ports.get(at + 1)? } else { first };
        has |= (first..=last).contains(&port);
        at += 1 + usize::from(is_range);
    }
    (kind == DESTINATIONS).then_some(has != (inverts != 0))
}

/// The element that has the value; in a set of intervals the one whose interval has it.
fn find<'a>(elements: &'a [Element], value: &[u8]) -> Option<&'a Element> {
    if elements.iter().any(|element| element.is_end) {
        let below = elements.iter().filter(|element| element.key.as_slice() <= value);
        // Where one interval ends another may begin.
        return below.max_by_key(|element| (&element.key, !element.is_end)).filter(|element| !element.is_end);
    }
    elements.iter().find(|element| element.key == value)
}

fn masked(parts: &[Bitwise], loaded: &Loaded) -> Loaded {
    let Loaded::Known(value) = loaded else { return Loaded::Unknown };
    let part = |of: fn(&Bitwise) -> Option<&DataAttribute>| match parts.iter().find_map(of) {
        Some(DataAttribute::Value(bytes)) if bytes.len() == value.len() => Some(bytes.clone()),
        _ => None,
    };
    let mask = part(|part| if let Bitwise::Mask(mask) = part { Some(mask) } else { None });
    let xor = part(|part| if let Bitwise::Xor(xor) = part { Some(xor) } else { None });
    match (mask, xor) {
        (Some(mask), Some(xor)) => {
            let bytes = value.iter().zip(mask).zip(xor);
            Loaded::Known(bytes.map(|((byte, mask), xor)| (byte & mask) ^ xor).collect())
        }
        _ => Loaded::Unknown,
    }
}

fn compare(parts: &[Cmp], loaded: &Loaded) -> Holds {
    let operator = parts.iter().find_map(|part| if let Cmp::Op(operator) = part { Some(*operator) } else { None });
    let value = parts.iter().find_map(|part| match part {
        Cmp::Data(DataAttribute::Value(value)) => Some(value.as_slice()),
        _ => None,
    });
    let (Some(operator), Some(value)) = (operator, value) else { return Holds::Perhaps };
    let is_loopback = match loaded {
        Loaded::Known(known) if known.len() == value.len() => {
            return match operator {
                Operator::Equal => (known.as_slice() == value).into(),
                Operator::NotEqual => (known.as_slice() != value).into(),
                Operator::LessThan => (known.as_slice() < value).into(),
                Operator::LessThanEqual => (known.as_slice() <= value).into(),
                Operator::GreaterThan => (known.as_slice() > value).into(),
                Operator::GreatherThanEqual => (known.as_slice() >= value).into(),
                _ => Holds::Perhaps,
            };
        }
        Loaded::Device => text(value) == "lo",
        Loaded::DeviceIndex => value == 1_u32.to_ne_bytes(),
        _ => false,
    };
    match operator {
        Operator::Equal if is_loopback => Holds::No,
        Operator::NotEqual if is_loopback => Holds::Yes,
        _ => Holds::Perhaps,
    }
}

fn in_range(attributes: &[DefaultNla], loaded: &Loaded) -> Holds {
    // An attribute in which the value is nested, behind a header of four bytes.
    let end = |kind| attribute(attributes, kind).and_then(|nested| Some(nested.get(4..)?.to_vec()));
    let (Loaded::Known(known), Some(from), Some(to)) = (loaded, end(RANGE_FROM), end(RANGE_TO)) else {
        return Holds::Perhaps;
    };
    let (Some(from), Some(to)) = (from.get(..known.len()), to.get(..known.len())) else { return Holds::Perhaps };
    let is_inside = (from..=to).contains(&known.as_slice());
    let inverts = attribute(attributes, RANGE_OPERATOR).is_some_and(|operator| operator == RANGE_NOT_EQUAL);
    (is_inside != inverts).into()
}

fn immediate(parts: &[Immediate]) -> Option<Then> {
    parts.iter().find_map(|part| match part {
        Immediate::Data(data) => verdict(data),
        _ => None,
    })
}

fn verdict(data: &DataAttribute) -> Option<Then> {
    let DataAttribute::Verdict(parts) = data else { return None };
    let code = parts.iter().find_map(|part| if let VerdictAttribute::Code(code) = part { Some(*code) } else { None });
    let chain = parts.iter().find_map(|part| if let VerdictAttribute::Chain(name) = part { Some(name) } else { None });
    match code? {
        Verdict::Jump => Some(Then::Jump(chain?.clone())),
        Verdict::Goto => Some(Then::Goto(chain?.clone())),
        Verdict::Return => Some(Then::Return),
        Verdict::Other(NF_ACCEPT) => Some(Then::Accept),
        Verdict::Other(NF_DROP) => Some(Then::Refuse),
        _ => None,
    }
}

/// The text before the NUL.
fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

fn attribute(attributes: &[DefaultNla], kind: u16) -> Option<Vec<u8>> {
    let found = attributes.iter().find(|attribute| attribute.kind() == kind)?;
    let mut bytes = vec![0; found.value_len()];
    found.emit_value(&mut bytes);
    Some(bytes)
}

/// Returns the rule's chain and its expressions.
fn read(message: RuleMessage) -> (String, Vec<Expressions>) {
    let (mut chain, mut expressions) = (String::new(), Vec::new());
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Chain(name) => chain = name,
            RuleAttribute::Expressions(list) => {
                for part in list {
                    let ListAttribute::Element(parts) = part else { continue };
                    expressions.extend(parts.into_iter().filter_map(|part| match part {
                        ExpressionAttribute::Data(data) => Some(data),
                        _ => None,
                    }));
                }
            }
            _ => {}
        }
    }
    (chain, expressions)
}

impl Nft {
    /// The elements of a set.
    fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<Element>, NftError> {
        let attributes = vec![SetElementList::Table(table.into()), SetElementList::Set(set.into())];
        let request = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
        let what = format!("the elements of the set {set} of the table {} {table}", family.name());
        self.list(family.number(), request, &what, |payload, list| {
            let message = payload.get(HEADER..).and_then(|bytes| SetElementMessage::parse(bytes).ok());
            for attribute in message.into_iter().flat_map(|message| message.attributes) {
                let SetElementList::Elements(elements) = attribute else { continue };
                for element in elements {
                    if let ListAttribute::Element(parts) = element {
                        list.extend(read_element(parts));
                    }
                }
            }
            Some(())
        })
    }
}

fn read_element(parts: Vec<SetElementAttribute>) -> Option<Element> {
    let mut element = Element { key: Vec::new(), is_end: false, verdict: None };
    for part in parts {
        match part {
            SetElementAttribute::Key(DataAttribute::Value(key)) => element.key = key,
            SetElementAttribute::Flags(flags) => element.is_end = flags.contains(SetElementFlags::IntervalEnd),
            SetElementAttribute::Data(data) => element.verdict = verdict(&data),
            _ => {}
        }
    }
    (!element.key.is_empty()).then_some(element)
}
