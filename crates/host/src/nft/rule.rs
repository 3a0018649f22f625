//! Rules: what a packet must be, and what becomes of it.

use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Meta, MetaKey, Operator,
    Payload, Register, RuleAttribute, Verdict, VerdictAttribute,
};

/// Verdicts of linux/netfilter.h.
pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// The bases of a payload expression: the IP header, and the header behind it.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NFT_REJECT_ICMPX_UNREACH` with `NFT_REJECT_ICMPX_ADMIN_PROHIBITED`, and their attributes.
const REJECT_ICMPX: u32 = 2;
/// `NFT_REJECT_TCP_RST`.
const REJECT_TCP_RESET: u32 = 1;
const ADMIN_PROHIBITED: u8 = 3;
const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
/// The size of an interface's name in a rule, in bytes.
pub(super) const NAME_SIZE: usize = 16;
/// The type of a comment in a rule's user data, as libnftnl numbers it, and the longest that it shows.
const COMMENT: u8 = 0;
const COMMENT_MAX: usize = 254;

/// One rule. A packet that is all that the rule demands meets its end: a verdict, or a translation.
#[derive(Debug)]
pub struct Rule {
    expressions: Vec<ListAttribute<ExpressionAttribute>>,
    comment: String,
}

impl Rule {
    /// Creates a rule that demands nothing. nft(8) lists its comment, and errors have it; at most 254 bytes of it are
    /// kept.
    pub fn new(comment: impl Into<String>) -> Rule {
        let mut comment = comment.into();
        let end = (0..=COMMENT_MAX.min(comment.len())).rev().find(|at| comment.is_char_boundary(*at)).unwrap_or(0);
        comment.truncate(end);
        Rule { expressions: Vec::new(), comment }
    }

    /// The rule in an error.
    pub(super) fn says(&self) -> &str {
        &self.comment
    }

    fn with(mut self, expression: Expressions) -> Rule {
        self.expressions.push(expression.into());
        self
    }

    fn compare(self, operator: Operator, value: &[u8]) -> Rule {
        self.with(Expressions::Cmp(vec![
            Cmp::SourceRegister(Register::Reg1),
            Cmp::Op(operator),
            Cmp::Data(DataAttribute::Value(value.to_vec())),
        ]))
    }

    fn load(self, key: MetaKey) -> Rule {
        self.with(Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)]))
    }

    fn load_payload(self, base: u32, offset: u32, length: usize) -> Rule {
        self.with(Expressions::Payload(vec![
            Payload::DestinationRegister(Register::Reg1),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(length as u32),
        ]))
    }

    /// The packet leaves by the device with this index. Indices of devices that are gone are not given away again.
    #[must_use]
    pub fn out_by_index(self, index: u32) -> Rule {
        self.load(MetaKey::Oif).compare(Operator::Equal, &index.to_ne_bytes())
    }

    /// The packet has come by the device with this index.
    #[must_use]
    pub fn in_by_index(self, index: u32) -> Rule {
        self.load(MetaKey::Iif).compare(Operator::Equal, &index.to_ne_bytes())
    }

    /// The packet leaves by the device of this name.
    #[must_use]
    pub fn out_by(self, device: &str) -> Rule {
        self.load(MetaKey::Oifname).compare(Operator::Equal, &name(device))
    }

    /// The packet leaves by another device than that of this name.
    #[must_use]
    pub fn out_by_other_than(self, device: &str) -> Rule {
        self.load(MetaKey::Oifname).compare(Operator::NotEqual, &name(device))
    }

    /// The packet has come by the device of this name.
    #[must_use]
    pub fn in_by(self, device: &str) -> Rule {
        self.load(MetaKey::Iifname).compare(Operator::Equal, &name(device))
    }

    /// The packet's destination is in this network; of this address alone with the whole length as the prefix.
    #[must_use]
    pub fn to(self, network: IpAddr, prefix: u8) -> Rule {
        let (family, offset) = match network {
            IpAddr::V4(_) => (IPV4, 16),
            IpAddr::V6(_) => (IPV6, 24),
        };
        self.load(MetaKey::Nfproto).compare(Operator::Equal, &[family]).address(offset, network, prefix)
    }

    /// The packet's source is in this network. For a table of one family.
    #[must_use]
    pub fn from(self, network: IpAddr, prefix: u8) -> Rule {
        let offset = if network.is_ipv4() { 12 } else { 8 };
        self.address(offset, network, prefix)
    }

    fn address(self, offset: u32, network: IpAddr, prefix: u8) -> Rule {
        let bytes = match network {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let mask = mask(bytes.len(), prefix);
        let masked: Vec<u8> = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        let rule = self.load_payload(NETWORK_HEADER, offset, bytes.len());
        let rule = if usize::from(prefix) < bytes.len() * 8 { rule.mask(mask) } else { rule };
        rule.compare(Operator::Equal, &masked)
    }

    fn mask(self, mask: Vec<u8>) -> Rule {
        let zeros = vec![0; mask.len()];
        self.with(Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(mask.len() as u32),
            Bitwise::Mask(DataAttribute::Value(mask)),
            Bitwise::Xor(DataAttribute::Value(zeros)),
        ]))
    }

    /// The packet is of this family alone: for what the rule demands of headers that differ.
    #[must_use]
    pub fn of_family(self, is_ipv6: bool) -> Rule {
        self.load(MetaKey::Nfproto).compare(Operator::Equal, &[if is_ipv6 { IPV6 } else { IPV4 }])
    }

    /// The packet is of this protocol (`IPPROTO_TCP`, ...), behind all headers of IPv6.
    #[must_use]
    pub fn of_protocol(self, protocol: i32) -> Rule {
        self.load(MetaKey::L4Proto).compare(Operator::Equal, &[protocol as u8])
    }

    /// The packet is TCP or UDP from this port; after [`Rule::of_protocol`].
    #[must_use]
    pub fn from_port(self, port: u16) -> Rule {
        self.load_payload(TRANSPORT_HEADER, 0, 2).compare(Operator::Equal, &port.to_be_bytes())
    }

    /// The packet is TCP or UDP to this port; after [`Rule::of_protocol`].
    #[must_use]
    pub fn to_port(self, port: u16) -> Rule {
        self.load_payload(TRANSPORT_HEADER, 2, 2).compare(Operator::Equal, &port.to_be_bytes())
    }

    /// The packet is an ICMP message of this type; after [`Rule::of_protocol`].
    #[must_use]
    pub fn of_icmp_type(self, kind: u8) -> Rule {
        self.load_payload(TRANSPORT_HEADER, 0, 1).compare(Operator::Equal, &[kind])
    }

    /// Counts the packets that have come this far.
    #[must_use]
    pub fn count(self) -> Rule {
        self.with(Expressions::Other { expression_type: "counter".into(), attributes: Vec::new() })
    }

    fn verdict(self, code: u32) -> Rule {
        let verdict = DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(code))]);
        self.with(Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(verdict),
        ]))
    }

    /// The packet passes this chain.
    #[must_use]
    pub fn accept(self) -> Rule {
        self.verdict(NF_ACCEPT)
    }

    /// The packet is dropped.
    #[must_use]
    pub fn drop(self) -> Rule {
        self.verdict(NF_DROP)
    }

    /// The packet is dropped, and its sender gets an ICMP error "administratively prohibited".
    #[must_use]
    pub fn reject(self) -> Rule {
        let attributes = vec![
            DefaultNla::new(NFTA_REJECT_TYPE, REJECT_ICMPX.to_be_bytes().to_vec()),
            DefaultNla::new(NFTA_REJECT_ICMP_CODE, vec![ADMIN_PROHIBITED]),
        ];
        self.with(Expressions::Other { expression_type: "reject".into(), attributes })
    }

    /// The packet, of TCP, is dropped, and its sender gets a reset.
    #[must_use]
    pub fn reset(self) -> Rule {
        let attributes = vec![DefaultNla::new(NFTA_REJECT_TYPE, REJECT_TCP_RESET.to_be_bytes().to_vec())];
        self.with(Expressions::Other { expression_type: "reject".into(), attributes })
    }

    /// The packet gets the address of the device by which it leaves as its source.
    #[must_use]
    pub fn masquerade(self) -> Rule {
        self.with(Expressions::Other { expression_type: "masq".into(), attributes: Vec::new() })
    }

    pub(super) fn into_attributes(self) -> [RuleAttribute; 2] {
        [RuleAttribute::Expressions(self.expressions), RuleAttribute::UserData(user_data(&self.comment))]
    }
}

/// A comment as nft(8) writes it: type, length, text with its NUL.
fn user_data(comment: &str) -> Vec<u8> {
    let mut bytes = vec![COMMENT, (comment.len() + 1) as u8];
    bytes.extend(comment.as_bytes());
    bytes.push(0);
    bytes
}

/// Returns the comment in a rule's user data.
pub(super) fn comment(user_data: &[u8]) -> Option<String> {
    let mut rest = user_data;
    while let [kind, length, tail @ ..] = rest {
        let (value, after) = tail.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return String::from_utf8(text.to_vec()).ok();
        }
        rest = after;
    }
    None
}

/// A device's name as the kernel compares it.
fn name(device: &str) -> [u8; NAME_SIZE] {
    let mut bytes = [0; NAME_SIZE];
    let length = device.len().min(NAME_SIZE - 1);
    bytes[..length].copy_from_slice(&device.as_bytes()[..length]);
    bytes
}

fn mask(length: usize, prefix: u8) -> Vec<u8> {
    (0..length).map(|at| 0xff_u8.checked_shl(8 - bits(at, prefix)).unwrap_or(0)).collect()
}

/// How many bits of the byte at this place belong to the prefix.
fn bits(at: usize, prefix: u8) -> u32 {
    usize::from(prefix).saturating_sub(at * 8).min(8) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_the_bits_of_its_prefix() {
        assert_eq!(mask(4, 0), [0, 0, 0, 0]);
        assert_eq!(mask(4, 9), [0xff, 0x80, 0, 0]);
        assert_eq!(mask(4, 32), [0xff; 4]);
        assert_eq!(mask(16, 64)[..10], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    }

    #[test]
    fn a_comment_is_read_as_it_was_written() {
        assert_eq!(comment(&user_data("a word")).as_deref(), Some("a word"));
        assert_eq!(comment(&[7, 2, 1, 1, 0, 3, b'x', b'y', 0]).as_deref(), Some("xy"));
        for broken in [&[][..], &[0], &[0, 9, b'x'], &[7, 1, 1]] {
            assert_eq!(comment(broken), None);
        }
        let long = "é".repeat(200);
        let kept = Rule::new(long.clone()).comment;
        assert_eq!(kept.len(), 254);
        assert!(long.starts_with(&kept));
    }

    #[test]
    fn a_name_has_its_nul() {
        assert_eq!(name("tun0")[..5], *b"tun0\0");
        assert_eq!(name("a-name-of-20-letters")[15], 0);
    }
}
