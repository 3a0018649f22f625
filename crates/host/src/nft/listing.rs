//! What the tables of this network namespace are and do, as far as this program has to know it of other programs' rules.

use std::net::Ipv4Addr;

use netlink_packet_core::{DefaultNla, Nla, Parseable};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, HookNumber,
    Immediate, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator, Payload, RuleAttribute, RuleMessage,
    TableAttribute, TableMessage, VerdictAttribute,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::batch::ChainHook;
use super::rule::{NAME_SIZE, NF_ACCEPT, NF_DROP, comment};
use super::{Family, Nft, NftError, TableName};
use crate::netlink::PATIENCE;

/// The beginning of what a listing is called in an error.
pub(super) const LIST: &str = "list ";
/// The size of the header in front of a message's attributes, in bytes.
pub(super) const HEADER: usize = 4;
/// `NFT_NAT_SNAT`, and the attribute of a nat expression that has it.
const SOURCE_NAT: [u8; 4] = 0_u32.to_be_bytes();
const NFTA_NAT_TYPE: u16 = 1;
/// The attribute of a target expression that names an extension of iptables.
const NFTA_TARGET_NAME: u16 = 1;

/// A chain that the kernel calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The family of its table.
    pub family: Family,
    /// The name of its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    hook: u32,
    /// Whether it drops what no rule accepts.
    pub drops: bool,
}

impl Chain {
    /// A chain of packets to the host itself, by its names: for those who judge chains without a kernel.
    pub fn named(family: Family, table: &str, name: &str) -> Chain {
        let hook = u32::from(ChainHook::Input.number());
        Chain { family, table: table.into(), name: name.into(), kind: "filter".into(), hook, drops: true }
    }

    /// Whether the kernel calls it here.
    pub fn is_at(&self, hook: ChainHook) -> bool {
        self.hook == u32::from(hook.number())
    }
}

/// What is known of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedRule {
    /// Its chain.
    pub chain: String,
    /// Its comment, empty if it has none.
    pub comment: String,
    /// Whether it translates the source of packets.
    pub translates_source: bool,
    /// The sources that it demands or excludes.
    sources: Vec<Source>,
    /// The names of devices that it demands, a part of them without the NUL.
    devices: Vec<Vec<u8>>,
    /// It demands a mark that packets do not have by themselves.
    demands_mark: bool,
    /// It demands something.
    has_condition: bool,
    ends: Option<End>,
}

/// What becomes of a packet that is all that a rule demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Accepted,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    network: u32,
    mask: u32,
    is_demanded: bool,
}

impl ListedRule {
    /// Whether it may translate packets from all of this network. It may not if it demands another source, or a mark.
    pub fn may_translate(&self, network: Ipv4Addr, prefix: u8) -> bool {
        let theirs_mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        let excluded = |source: &Source| {
            let common = source.mask & theirs_mask;
            let meets = source.network & common == u32::from(network) & common;
            let holds = meets && source.mask & !theirs_mask == 0;
            if source.is_demanded { !meets } else { holds }
        };
        self.translates_source && !self.demands_mark && !self.sources.iter().any(excluded)
    }

    /// Whether it accepts packets of the device of this name.
    pub fn accepts_device(&self, name: &str) -> bool {
        let is_name = |value: &Vec<u8>| match value.iter().position(|byte| *byte == 0) {
            Some(end) => &value[..end] == name.as_bytes(),
            None => name.as_bytes().starts_with(value),
        };
        self.ends != Some(End::Refused) && self.devices.iter().any(is_name)
    }

    /// Whether it refuses every packet.
    pub fn refuses_all(&self) -> bool {
        self.ends == Some(End::Refused) && !self.has_condition
    }
}

impl Nft {
    pub(super) fn list<T>(
        &mut self,
        family: NetfilterProtoFamily,
        message: NfTablesMessage,
        what: &str,
        parse: fn(&[u8], &mut Vec<T>) -> Option<()>,
    ) -> Result<Vec<T>, NftError> {
        let request = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
        Ok(self.socket.dump(request, format_args!("{LIST}{what}"), PATIENCE, parse)?)
    }

    /// The tables for IP packets, by family and name.
    ///
    /// # Errors
    /// If the kernel has no nf_tables, or the privilege is missing.
    pub fn tables(&mut self) -> Result<Vec<TableName>, NftError> {
        let request = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
        self.list(NetfilterProtoFamily::Unspec, request, "the tables", |payload, list| {
            let Some(family) = family(payload) else { return Some(()) };
            let message = payload.get(HEADER..).and_then(|bytes| TableMessage::parse(bytes).ok());
            let name =
                message.into_iter().flat_map(|message| message.attributes).find_map(|attribute| match attribute {
                    TableAttribute::Name(name) => Some(name),
                    _ => None,
                });
            list.extend(name.map(|name| (family, name)));
            Some(())
        })
    }

    /// The chains for IP packets that the kernel calls.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn base_chains(&mut self) -> Result<Vec<Chain>, NftError> {
        let request = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        self.list(NetfilterProtoFamily::Unspec, request, "the chains", |payload, list| {
            let Some(family) = family(payload) else { return Some(()) };
            // One that cannot be read must not hide the others.
            let Some(message) = payload.get(HEADER..).and_then(|bytes| ChainMessage::parse(bytes).ok()) else {
                return Some(());
            };
            list.extend(chain(family, message));
            Some(())
        })
    }

    /// The rules of a table, in the order of each chain. A rule that cannot be read is left out.
    ///
    /// # Errors
    /// As [`Nft::tables`]; `ENOENT` if there is no such table.
    pub fn rules(&mut self, family: Family, table: &str) -> Result<Vec<ListedRule>, NftError> {
        Ok(self.raw_rules(family, table)?.into_iter().map(read_rule).collect())
    }

    /// The same, as the kernel lists them.
    pub(super) fn raw_rules(&mut self, family: Family, table: &str) -> Result<Vec<RuleMessage>, NftError> {
        let attributes = vec![RuleAttribute::Table(table.into())];
        let request = NfTablesMessage::GetRule(RuleMessage { attributes });
        let what = format!("the rules of the table {} {table}", family.name());
        let listed = self.list(family.number(), request, &what, |payload, list| {
            list.push(payload.get(HEADER..).and_then(|bytes| RuleMessage::parse(bytes).ok()));
            Some(())
        })?;
        // Kernels before 4.7 list those of all tables.
        let is_of_table = |message: &RuleMessage| message.attributes.contains(&RuleAttribute::Table(table.into()));
        Ok(listed.into_iter().flatten().filter(is_of_table).collect())
    }

    /// The rules of a table if it exists.
    pub(super) fn rules_if_there(&mut self, family: Family, table: &str) -> Result<Option<Vec<ListedRule>>, NftError> {
        if !self.tables()?.iter().any(|(one, name)| *one == family && name == table) {
            return Ok(None);
        }
        match self.rules(family, table) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            rules => rules.map(Some),
        }
    }
}

/// Returns the family of a listed object; `None` if it does not see IP packets on their way.
fn family(payload: &[u8]) -> Option<Family> {
    payload.first().and_then(|number| Family::of(*number))
}

/// Returns the chain if the kernel calls it.
fn chain(family: Family, message: ChainMessage) -> Option<Chain> {
    let mut chain =
        Chain { family, table: String::new(), name: String::new(), kind: String::new(), hook: 0, drops: false };
    let mut is_called = false;
    for attribute in message.attributes {
        match attribute {
            ChainAttribute::Table(table) => chain.table = table,
            ChainAttribute::Name(name) => chain.name = name,
            ChainAttribute::Type(kind) => chain.kind = kind,
            ChainAttribute::Policy(policy) => chain.drops = policy == NF_DROP,
            ChainAttribute::Hook(hook) => {
                let number = hook.iter().find_map(|hook| match hook {
                    Hook::Number(HookNumber::Inet(number)) => Some(u32::from(*number)),
                    _ => None,
                });
                is_called = number.is_some();
                chain.hook = number.unwrap_or_default();
            }
            _ => {}
        }
    }
    is_called.then_some(chain)
}

/// What the rule's expressions have loaded into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    Source { mask: Option<u32> },
    Device,
    Mark,
    Other,
}

fn read_rule(message: RuleMessage) -> ListedRule {
    let mut rule = ListedRule::default();
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Chain(chain) => rule.chain = chain,
            RuleAttribute::UserData(data) => rule.comment = comment(&data).unwrap_or_default(),
            RuleAttribute::Expressions(list) => {
                let mut loaded = Loaded::Other;
                for expression in list {
                    let ListAttribute::Element(parts) = expression else { continue };
                    for part in parts {
                        if let ExpressionAttribute::Data(data) = part {
                            loaded = rule.take(data, loaded);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    rule
}

impl ListedRule {
    /// Takes an expression; returns what has been loaded after it.
    fn take(&mut self, expression: Expressions, loaded: Loaded) -> Loaded {
        match expression {
            Expressions::Payload(parts) => {
                let number = |of: fn(&Payload) -> Option<u32>| parts.iter().find_map(of);
                let place = number(|part| if let Payload::Base(base) = part { Some(*base) } else { None })
                    .zip(number(|part| if let Payload::Offset(offset) = part { Some(*offset) } else { None }));
                return if place == Some((1, 12)) { Loaded::Source { mask: None } } else { Loaded::Other };
            }
            Expressions::Meta(parts) => {
                return parts
                    .iter()
                    .find_map(|part| match part {
                        Meta::Key(MetaKey::Iifname | MetaKey::Oifname) => Some(Loaded::Device),
                        Meta::Key(MetaKey::Mark) => Some(Loaded::Mark),
                        _ => None,
                    })
                    .unwrap_or(Loaded::Other);
            }
            Expressions::Bitwise(parts) => {
                let mask = parts.iter().find_map(|part| match part {
                    Bitwise::Mask(DataAttribute::Value(mask)) => Some(number(mask)),
                    _ => None,
                });
                return match loaded {
                    Loaded::Source { .. } => Loaded::Source { mask },
                    other => other,
                };
            }
            Expressions::Cmp(parts) => {
                self.has_condition = true;
                self.compare(&parts, loaded);
            }
            Expressions::Immediate(parts) => {
                let code = parts.iter().find_map(|part| match part {
                    Immediate::Data(DataAttribute::Verdict(verdict)) => verdict.iter().find_map(|part| match part {
                        VerdictAttribute::Code(code) => Some(u32::from(*code)),
                        _ => None,
                    }),
                    _ => None,
                });
                self.ends = match code {
                    Some(NF_ACCEPT) => Some(End::Accepted),
                    Some(NF_DROP) => Some(End::Refused),
                    _ => self.ends,
                };
            }
            Expressions::Other { expression_type, attributes } => match expression_type.as_str() {
                "masq" => self.translates_source = true,
                "nat" => self.translates_source |= has(&attributes, NFTA_NAT_TYPE, &SOURCE_NAT),
                "target" => {
                    let is =
                        |name: &str| has(&attributes, NFTA_TARGET_NAME, [name.as_bytes(), &[0]].concat().as_slice());
                    self.translates_source |= ["MASQUERADE", "SNAT", "NETMAP"].into_iter().any(is);
                    if is("REJECT") {
                        self.ends = Some(End::Refused);
                    }
                }
                "reject" => self.ends = Some(End::Refused),
                "counter" | "log" | "limit" => {}
                _ => self.has_condition = true,
            },
            _ => self.has_condition = true,
        }
        loaded
    }

    fn compare(&mut self, parts: &[Cmp], loaded: Loaded) {
        let operator = parts.iter().find_map(|part| if let Cmp::Op(operator) = part { Some(*operator) } else { None });
        let value = parts.iter().find_map(|part| match part {
            Cmp::Data(DataAttribute::Value(value)) => Some(value),
            _ => None,
        });
        let (Some(operator @ (Operator::Equal | Operator::NotEqual)), Some(value)) = (operator, value) else { return };
        let is_demanded = operator == Operator::Equal;
        match loaded {
            Loaded::Source { mask } => {
                // A rule may load only the bytes of a prefix of 8, 16 or 24 bits.
                let mask = mask.unwrap_or_else(|| number(&vec![0xff; value.len()]));
                self.sources.push(Source { network: number(value), mask, is_demanded });
            }
            Loaded::Device if is_demanded && value.len() <= NAME_SIZE => self.devices.push(value.clone()),
            Loaded::Mark => self.demands_mark |= is_demanded == value.iter().any(|byte| *byte != 0),
            _ => {}
        }
    }
}

/// The number that the first four bytes are in network order; missing ones are 0.
fn number(bytes: &[u8]) -> u32 {
    let mut four = [0; 4];
    for (to, from) in four.iter_mut().zip(bytes) {
        *to = *from;
    }
    u32::from_be_bytes(four)
}

fn has(attributes: &[DefaultNla], kind: u16, value: &[u8]) -> bool {
    attributes.iter().any(|attribute| {
        let mut bytes = vec![0; attribute.value_len()];
        attribute.emit_value(&mut bytes);
        attribute.kind() == kind && bytes == value
    })
}

#[cfg(feature = "lab")]
impl Nft {
    /// The families and attributes of all tables, chains and rules, as the kernel lists them: for a test that compares
    /// them byte for byte.
    ///
    /// # Errors
    /// As [`Nft::tables`].
    pub fn ruleset(&mut self) -> Result<Vec<Vec<u8>>, NftError> {
        let requests = [
            NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() }),
            NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() }),
            NfTablesMessage::GetRule(RuleMessage { attributes: Vec::new() }),
        ];
        let mut all = Vec::new();
        for request in requests {
            all.extend(self.list(NetfilterProtoFamily::Unspec, request, "all", |payload, list| {
                // The rest of the header is the number of the last change.
                list.push([payload.get(..1)?, payload.get(HEADER..)?].concat());
                Some(())
            })?);
        }
        Ok(all)
    }
}
