//! The Linux host as the VPN uses it: TUN devices with their queues, and links, addresses and routes over rtnetlink.
#![deny(unsafe_code)]

#[cfg(feature = "lab")]
pub mod lab;
pub mod netlink;
pub mod threads;
pub mod told;
pub mod tun;
