//! The Linux host as the VPN uses it: TUN devices with their queues; links, addresses and routes over rtnetlink; name
//! servers.
#![deny(unsafe_code)]

pub mod clock;
pub mod descriptors;
pub mod dial;
pub mod dns;
pub mod ipv6;
#[cfg(feature = "lab")]
pub mod lab;
pub mod look_up;
pub mod narrow_path;
pub mod netlink;
pub mod nft;
pub mod outer_path;
pub mod owner;
pub mod patience;
pub mod pipes;
pub mod resolvers;
pub mod threads;
pub mod told;
pub mod tun;
