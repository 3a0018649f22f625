//! Changes that the kernel performs together.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, InetHookNumber, NfTablesMessage, RuleAttribute, RuleMessage,
    TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::rule::{NF_ACCEPT, NF_DROP};
use super::{Family, Rule};

/// The number of the subsystem nf_tables, which a batch's begin and end name (linux/netfilter/nfnetlink.h).
const SUBSYSTEM: u16 = 10;
/// What a batch as a whole is called in an error.
pub(super) const TRANSACTION: &str = "start a transaction";
/// The beginning of what a rule's step is called in an error.
pub(super) const ADD_RULE: &str = "add a rule";

/// Where on a packet's way the kernel calls a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainHook {
    /// Packets to the host itself.
    Input,
    /// Packets that the host passes on.
    Forward,
    /// Packets of the host itself.
    Output,
    /// All packets that leave.
    Postrouting,
}

impl ChainHook {
    pub(super) fn number(self) -> InetHookNumber {
        match self {
            ChainHook::Input => InetHookNumber::LocalIn,
            ChainHook::Forward => InetHookNumber::Forward,
            ChainHook::Output => InetHookNumber::LocalOut,
            ChainHook::Postrouting => InetHookNumber::PostRouting,
        }
    }
}

/// A chain that the kernel calls.
#[derive(Clone, Copy, Debug)]
pub struct BaseChain {
    /// Its name.
    pub name: &'static str,
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Where it is called.
    pub hook: ChainHook,
    /// Of several chains the one with the lower number comes first.
    pub priority: i32,
    /// Whether a packet passes that no rule decides.
    pub accepts: bool,
}

/// Changes of tables, in their order.
#[derive(Debug, Default)]
pub struct Batch {
    steps: Vec<(NetfilterMessage, u16, String)>,
}

impl Batch {
    /// Creates a batch without changes.
    pub fn new() -> Batch {
        Batch::default()
    }

    fn step(&mut self, family: Family, message: NfTablesMessage, flags: u16, what: String) {
        let header = NetfilterHeader::new(family.number(), 0, 0);
        self.steps.push((NetfilterMessage::new(header, message), flags, what));
    }

    /// Deletes a table with all that it has, whether it is there or not.
    pub fn delete_table(&mut self, family: Family, table: &str) {
        // The kernel refuses to delete what is missing.
        self.add_table(family, table);
        self.delete_existing(family, table);
    }

    fn delete_existing(&mut self, family: Family, table: &str) {
        let message =
            NfTablesMessage::DeleteTable(TableMessage { attributes: vec![TableAttribute::Name(table.into())] });
        self.step(family, message, 0, format!("delete the table {} {table}", family.name()));
    }

    fn add_table(&mut self, family: Family, table: &str) {
        let message = NfTablesMessage::NewTable(TableMessage { attributes: vec![TableAttribute::Name(table.into())] });
        self.step(family, message, NLM_F_CREATE, format!("add the table {} {table}", family.name()));
    }

    /// Puts an empty table in the place of one of this name, if there is one.
    pub fn put_table(&mut self, family: Family, table: &str) {
        self.delete_table(family, table);
        self.add_table(family, table);
    }

    /// Adds a chain that the kernel calls.
    pub fn add_chain(&mut self, family: Family, table: &str, chain: &BaseChain) {
        let hook = vec![
            Hook::Number(HookNumber::Inet(chain.hook.number())),
            // The kernel reads a signed number.
            Hook::Priority(chain.priority as u32),
        ];
        let attributes = vec![
            ChainAttribute::Table(table.into()),
            ChainAttribute::Name(chain.name.into()),
            ChainAttribute::Type(chain.kind.into()),
            ChainAttribute::Hook(hook),
            ChainAttribute::Policy(if chain.accepts { NF_ACCEPT } else { NF_DROP }),
        ];
        let message = NfTablesMessage::NewChain(ChainMessage { attributes });
        self.step(family, message, NLM_F_CREATE, format!("add the chain {} to the table {table}", chain.name));
    }

    /// Adds a rule behind the others of its chain.
    pub fn add_rule(&mut self, family: Family, table: &str, chain: &str, rule: Rule) {
        let what = format!("{ADD_RULE} ({}) to the chain {chain} of the table {table}", rule.says());
        let mut attributes = vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into())];
        attributes.extend(rule.into_attributes());
        let message = NfTablesMessage::NewRule(RuleMessage { attributes });
        self.step(family, message, NLM_F_CREATE | NLM_F_APPEND, what);
    }

    /// Returns the messages with the batch's begin and end.
    pub(super) fn finish(self) -> Vec<(NetfilterMessage, u16, String)> {
        let control = |message| {
            let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
            (NetfilterMessage::new(header, message), 0, TRANSACTION.to_owned())
        };
        let mut all = vec![control(ControlMessage::BatchBegin)];
        all.extend(self.steps);
        all.push(control(ControlMessage::BatchEnd));
        all
    }
}
