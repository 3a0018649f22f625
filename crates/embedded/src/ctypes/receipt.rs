//! Prices, receipts and signatures of paid service.

use super::base::{DAP_CHAIN_TICKER_SIZE_MAX, dap_chain_net_srv_uid, dap_hash_fast};
use std::ffi::c_char;

/// A number of 256 bits: two little-endian halves of 128 bits, the upper one first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct uint256 {
    pub bytes: [u8; 32],
}
pub type uint256_t = uint256;

/// The unit of a price: seconds 0x02, bytes 0x11, pieces 0x22.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct dap_chain_net_srv_price_unit_uid {
    pub enm: u32,
}
pub type dap_chain_net_srv_price_unit_uid_t = dap_chain_net_srv_price_unit_uid;

/// The price of one receipt.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_net_srv_price {
    /// The value of one receipt.
    pub value_datoshi: uint256,
    /// NUL padded.
    pub token: [c_char; DAP_CHAIN_TICKER_SIZE_MAX],
    /// The units of one receipt.
    pub units: u64,
    pub units_uid: dap_chain_net_srv_price_unit_uid,
}
pub type dap_chain_net_srv_price_t = dap_chain_net_srv_price;

/// The part of a receipt that is signed (96 bytes, little-endian).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct dap_chain_receipt_info {
    pub srv_uid: dap_chain_net_srv_uid,
    pub addition: u64,
    pub units_type: dap_chain_net_srv_price_unit_uid,
    /// 2.
    pub version: u8,
    pub padding: [u8; 3],
    pub units: u64,
    pub value_datoshi: uint256,
    pub prev_tx_cond_hash: dap_hash_fast,
}
pub type dap_chain_receipt_info_t = dap_chain_receipt_info;

/// A receipt (113 bytes, little-endian), with extensions and up to two signatures behind it.
#[repr(C, packed)]
pub struct dap_chain_datum_tx_receipt {
    /// 0x71.
    pub r#type: u8,
    pub receipt_info: dap_chain_receipt_info,
    /// The size of everything, in bytes.
    pub size: u64,
    pub exts_size: u64,
    pub exts_n_signs: [u8; 0],
}
pub type dap_chain_datum_tx_receipt_t = dap_chain_datum_tx_receipt;

/// A signature's header (14 bytes, little-endian).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct dap_sign_hdr {
    pub r#type: u32,
    /// With the bit 0x80, a hash takes the public key's place.
    pub hash_type: u8,
    pub padding: u8,
    pub sign_size: u32,
    pub sign_pkey_size: u32,
}
pub type dap_sign_hdr_t = dap_sign_hdr;

/// A signature: the header, the public key, the signature itself.
#[repr(C, packed)]
pub struct dap_sign {
    pub header: dap_sign_hdr,
    pub pkey_n_sign: [u8; 0],
}
pub type dap_sign_t = dap_sign;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_on_the_wire() {
        assert_eq!(size_of::<dap_chain_receipt_info>(), 96);
        assert_eq!(size_of::<dap_chain_datum_tx_receipt>(), 113);
        assert_eq!(size_of::<dap_sign>(), 14);
    }
}
