//! Certificates.

use std::ffi::c_char;

/// Opaque: a key pair.
pub struct dap_enc_key;
pub type dap_enc_key_t = dap_enc_key;

#[repr(C)]
pub struct dap_cert {
    pub enc_key: *mut dap_enc_key,
    pub name: [c_char; 40],
}
pub type dap_cert_t = dap_cert;
