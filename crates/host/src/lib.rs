//! The Linux host as the VPN uses it: TUN devices with their queues; links, addresses and routes over rtnetlink; name
//! servers.
#![deny(unsafe_code)]

#[cfg(feature = "lab")]
pub mod lab;
pub mod netlink;
pub mod resolvers;
pub mod threads;
pub mod tun;
