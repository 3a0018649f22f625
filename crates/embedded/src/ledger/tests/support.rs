//! A server's ledger and wallets, without the process's own.

use super::disk::Disk;
use crate::ledger::book::{Book, Identity};
use crate::ledger::file::{FileError, head};
use crate::ledger::operation::{Operation, Payment, What};
use crate::ledger::{Error, Hash, VPN_UID, hash_of, value_bytes};
use crate::receipt::Key;
use vpn_core::money::{Closing, Instruction, Opening, Token};
use vpn_core::wire::{ReceiptInfo, unit};

pub(super) const NET: u64 = 0x77;

/// The server.
pub(super) struct Server {
    pub(super) key: Key,
}

impl Server {
    pub(super) fn new() -> Server {
        Server { key: Key::generate().unwrap() }
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { authority: self.key.fingerprint(), provider: self.key.hash() }
    }

    pub(super) fn open(&self, disk: &Disk) -> Result<(Book, u64), FileError> {
        Book::read(NET, Box::new(disk.clone()), self.identity())
    }

    /// A ledger on a new disk.
    pub(super) fn new_book(&self) -> (Book, Disk) {
        let disk = Disk::holding(&head(NET));
        (self.open(&disk).unwrap().0, disk)
    }

    pub(super) fn opening(&self, owner: &Key, counter: u64, value: u128) -> Opening {
        Opening {
            net: NET,
            authority: self.key.fingerprint(),
            owner: owner.hash(),
            counter,
            token: cell(),
            value,
            max_unit_price: 0,
            fee: 0,
            srv_uid: VPN_UID,
            unit: unit::SECONDS,
        }
    }

    pub(super) fn open_bytes(&self, owner: &Key, counter: u64, value: u128) -> Vec<u8> {
        signed(&Instruction::Open(self.opening(owner, counter, value)), owner)
    }

    pub(super) fn close_bytes(&self, owner: &Key, counter: u64, first: Hash) -> Vec<u8> {
        let (authority, owner_hash) = (self.key.fingerprint(), owner.hash());
        signed(&Instruction::Close(Closing { net: NET, authority, owner: owner_hash, counter, first }), owner)
    }

    pub(super) fn info(&self, value: u128, spends: Hash) -> ReceiptInfo {
        let value = value_bytes(value);
        ReceiptInfo { srv_uid: VPN_UID, units_type: unit::SECONDS, version: 2, units: 20, value, prev_tx: spends }
    }

    pub(super) fn payment(&self, client: &Key, value: u128, spends: Hash) -> Operation {
        self.payment_of(client, &self.info(value, spends), spends)
    }

    pub(super) fn payment_of(&self, client: &Key, info: &ReceiptInfo, spends: Hash) -> Operation {
        let receipt = client.add_to(&self.key.issue(info).unwrap()).unwrap();
        payment(receipt, spends)
    }
}

pub(super) fn payment(receipt: Vec<u8>, spends: Hash) -> Operation {
    let hash = hash_of(&[&spends, &receipt]);
    Operation { time: 3, what: What::Payment(Payment { hash, spends, fees: 0, receipt }) }
}

pub(super) fn signed(instruction: &Instruction, key: &Key) -> Vec<u8> {
    let bytes = instruction.encode();
    [bytes.clone(), key.sign(&bytes).unwrap()].concat()
}

pub(super) fn cell() -> Token {
    Token::new("CELL").unwrap()
}

pub(super) fn fund(book: &Book, owner: &Key, amount: u128) -> Result<Hash, Error> {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    book.execute(&Operation { time: 1, what: What::Fund { owner: owner.hash(), token: cell(), amount, number } })
}

pub(super) fn balance(book: &Book, owner: &Key) -> u128 {
    book.with(|inner| inner.state.balance(&owner.hash(), &cell()))
}

pub(super) fn locked(book: &Book, owner: &Key) -> u128 {
    book.with(|inner| inner.state.locked(&owner.hash(), &cell()))
}

pub(super) fn earned(book: &Book) -> u128 {
    book.with(|inner| inner.state.earned())
}

pub(super) fn audit(book: &Book) {
    assert_eq!(book.with(|inner| inner.state.audit()), Ok(()));
}
