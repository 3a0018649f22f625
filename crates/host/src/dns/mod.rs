//! The host's name servers while a tunnel is up, and the ones from before when it is not.
//!
//! [`resolv_conf`] replaces the file that the C library reads; what it leaves behind says by itself how to undo it.

pub mod resolv_conf;
