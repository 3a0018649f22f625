//! The client's handling of the server's ADDR_REPLY.

use std::ffi::CString;
use std::fs;
use std::net::Ipv4Addr;
use std::ptr;

use dap_chain_net_srv_vpn::abi::client as abi;
use dap_chain_net_srv_vpn::app::{self, Status};
use embedded::abi::config::{dap_config_close, dap_config_init, dap_config_open};
use host::netlink::Netlink;
use testkit::eventually;
use testkit::netns::in_namespace;
use vpn_core::wire::{AddrReply, Capabilities, op};

use crate::server::{ADDRESS, GATEWAY, Server, reply};

#[test]
fn invalid_offers_are_refused() {
    in_namespace("offers::invalid_offers_are_refused", || {
        let server = Server::start("");
        let other = Ipv4Addr::new(10, 55, 0, 7);
        for (addr, gateway, netmask, says) in [
            (ADDRESS, GATEWAY, [128, 0, 0, 0], "a prefix of /8 to /30 is expected"),
            (ADDRESS, GATEWAY, [255, 255, 255, 255], "a prefix of /8 to /30 is expected"),
            (ADDRESS, ADDRESS, [255, 255, 255, 0], "two different ones are expected"),
            (ADDRESS, GATEWAY, [255, 255, 255, 254], "a prefix of /8 to /30 is expected"),
            (Ipv4Addr::new(10, 98, 0, 255), GATEWAY, [255, 255, 255, 0], "the network or broadcast address"),
            (Ipv4Addr::new(10, 99, 0, 2), GATEWAY, [255, 255, 255, 0], "outside of its subnet 10.99.0.0/24"),
            (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3), [255, 0, 0, 0], "loopback"),
            (other, Ipv4Addr::new(10, 55, 0, 8), [255, 255, 255, 0], "holds its own outer address 10.55.0.1"),
        ] {
            let caps = Some(Capabilities::default());
            server.will_answer(&AddrReply { addr, gateway, netmask: Some(netmask.into()), caps });
            assert_eq!(server.connect(), -2, "{addr} {gateway} {netmask:?}");
            let error = app::client_last_error().unwrap().to_string();
            assert!(error.contains("refused") && error.contains(says), "{error}");
            assert_eq!(app::client_status(), Status::NotStarted);
            let links = Netlink::open().unwrap().links().unwrap();
            assert!(!links.iter().any(|link| link.name.starts_with("tun")), "{links:?}");
        }
        server.will_answer(&reply(None));
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        app::client_stop();
    });
}

#[test]
fn the_smaller_mtu_counts_also_above_the_default() {
    in_namespace("offers::the_smaller_mtu_counts_also_above_the_default", || {
        let server = Server::start("mtu=4000\n");
        for (theirs, mtu) in [(None, 4000), (Some(9000), 4000), (Some(3000), 3000)] {
            server.will_answer(&reply(Some(Capabilities { mtu: theirs, ..Capabilities::default() })));
            assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
            assert_eq!(app::client_lease().unwrap().mtu, mtu);
            app::client_stop();
        }
    });
}

/// A server behind a gateway with a short timeout requests frequent pings.
#[test]
fn pings_come_as_often_as_the_server_asks() {
    in_namespace("offers::pings_come_as_often_as_the_server_asks", || {
        let server = Server::start("keep_alive=3600\n");
        server.will_answer(&reply(Some(Capabilities { keep_alive: Some(1), ..Capabilities::default() })));
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        eventually("two pings", || server.got(op::PING) >= 2);
        assert_eq!(app::client_status(), Status::Started);
        app::client_stop();
    });
}

/// A start reads the configuration that was given to `dap_chain_net_vpn_client_init`.
#[test]
fn the_configuration_of_init_is_used() {
    in_namespace("offers::the_configuration_of_init_is_used", || {
        let server = Server::start("");
        for (name, mtu) in [("node", 1000), ("other", 700)] {
            let path = server.directory.path().join(format!("{name}.cfg"));
            fs::write(path, format!("[vpn_client]\nmtu={mtu}\n")).unwrap();
        }
        let directory = CString::new(server.directory.path().to_str().unwrap()).unwrap();
        let mtu = || {
            assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
            let mtu = app::client_lease().unwrap().mtu;
            app::client_stop();
            mtu
        };
        // SAFETY: NUL-terminated strings; the configuration stays open until deinit.
        unsafe {
            assert_eq!(dap_config_init(directory.as_ptr()), 0);
            // The first open configuration is the node's.
            let node = dap_config_open(c"node".as_ptr());
            assert!(!node.is_null());
            let other = dap_config_open(c"other".as_ptr());
            assert!(!other.is_null());
            assert_eq!(abi::dap_chain_net_vpn_client_init(other.cast()), 0);
            assert_eq!(mtu(), 700);
            assert_eq!(abi::dap_chain_net_vpn_client_init(ptr::null_mut()), 0);
            assert_eq!(mtu(), 1000);
            assert_eq!(abi::dap_chain_net_vpn_client_init(other.cast()), 0);
            abi::dap_chain_net_vpn_client_deinit();
            dap_config_close(other);
            assert_eq!(mtu(), 1000);
            dap_config_close(node);
        }
    });
}
