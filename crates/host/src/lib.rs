//! The Linux host as the VPN uses it: TUN devices with their queues, and links, addresses and routes over rtnetlink.
#![deny(unsafe_code)]

pub mod descriptors;
pub mod dial;
#[cfg(feature = "lab")]
pub mod lab;
pub mod netlink;
pub mod patience;
pub mod pipes;
pub mod threads;
pub mod tun;
