//! The client's handling of the server's ADDR_REPLY.

use std::ffi::CString;
use std::fs;
use std::net::Ipv4Addr;
use std::ptr;

use dap_chain_net_srv_vpn::abi::{client as abi, client_tun};
use dap_chain_net_srv_vpn::app::{self, Status};
use dap_chain_net_srv_vpn::sdk::visible::dap_chain_net_srv_ch_vpn_t;
use dap_chain_net_srv_vpn::sdk::{Running, worker};
use embedded::abi::config::{dap_config_close, dap_config_init, dap_config_open};
use host::netlink::Netlink;
use testkit::eventually;
use testkit::logged::log_lines;
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
            (Ipv4Addr::new(8, 0, 0, 2), Ipv4Addr::new(8, 0, 0, 1), [255, 0, 0, 0], "8.0.0.0/8, which is in no private"),
            (Ipv4Addr::new(169, 254, 7, 2), Ipv4Addr::new(169, 254, 7, 1), [255, 255, 255, 0], "169.254.0.0/16"),
            (Ipv4Addr::new(240, 0, 7, 2), Ipv4Addr::new(240, 0, 7, 1), [255, 255, 255, 0], "240.0.0.0/4"),
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

/// The same judgement for a client in C that hands its server's replies over. What it chooses by itself is its own.
#[test]
fn replies_that_c_hands_over_are_judged_and_its_own_choice_is_not() {
    in_namespace("offers::replies_that_c_hands_over_are_judged_and_its_own_choice_is_not", || {
        let server = Server::start("allow_subnet=[203.0.113.0/24]\n");
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link_index("lo").unwrap();
        let leased = |addr: [u8; 4], gateway: [u8; 4]| {
            let reply = AddrReply { addr: addr.into(), gateway: gateway.into(), netmask: None, caps: None };
            let mut packet = reply.encode(1, 0);
            let size = packet.len() - 20;
            // SAFETY: zero is a valid value of each field: numbers, a flag and pointers that may be NULL.
            let mut channel: dap_chain_net_srv_ch_vpn_t = unsafe { std::mem::zeroed() };
            // SAFETY: a VPN channel without `ch`, and a header with `size` bytes behind it.
            let code = unsafe { client_tun::ch_sf_tun_addr_leased(&raw mut channel, packet.as_mut_ptr().cast(), size) };
            client_tun::dap_chain_net_vpn_client_tun_delete();
            code
        };
        assert_eq!(leased([10, 98, 0, 2], [10, 98, 0, 1]), 0);
        assert_eq!(leased([203, 0, 113, 2], [203, 0, 113, 1]), 0, "allowed by the user");
        for (addr, gateway) in [
            ([8, 0, 0, 2], [8, 0, 0, 1]),
            ([198, 18, 0, 2], [198, 18, 0, 1]),
            ([169, 254, 169, 2], [169, 254, 169, 1]),
            ([240, 0, 0, 2], [240, 0, 0, 1]),
        ] {
            assert_eq!(leased(addr, gateway), -1, "{addr:?}");
            let text = |addr: [u8; 4]| CString::new(Ipv4Addr::from(addr).to_string()).unwrap();
            let (own, other) = (text(addr), text(gateway));
            // SAFETY: NUL-terminated texts.
            let code = unsafe { client_tun::dap_chain_net_vpn_client_tun_create(own.as_ptr(), other.as_ptr()) };
            assert_eq!(code, 0, "{addr:?}");
            client_tun::dap_chain_net_vpn_client_tun_delete();
        }
        let destination = Ipv4Addr::new(10, 98, 0, 77);
        netlink.add_route(destination, 32, None, Some(lo)).unwrap();
        assert_eq!(leased([10, 98, 0, 2], [10, 98, 0, 1]), -2);
        netlink.del_route(destination, 32, None, Some(lo)).unwrap();
        assert_eq!(leased([10, 98, 0, 2], [10, 98, 0, 1]), 0);
        drop(server);
    });
}

/// A server that repeats its reply costs the worker no more than the first few.
#[test]
fn replies_that_c_repeats_on_a_worker_are_judged_a_few_times() {
    in_namespace("offers::replies_that_c_repeats_on_a_worker_are_judged_a_few_times", || {
        let server = Server::start("");
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        app::client_stop();
        let running = Running::retain().unwrap();
        let leased = |addr: [u8; 4], gateway: [u8; 4], times: usize| {
            let (done, codes) = std::sync::mpsc::channel();
            let reply = AddrReply { addr: addr.into(), gateway: gateway.into(), netmask: None, caps: None };
            let mut packet = reply.encode(1, 0);
            assert!(worker::exec(0, move || {
                let size = packet.len() - 20;
                // SAFETY: zero is a valid value of each field: numbers, a flag and pointers that may be NULL.
                let mut channel: dap_chain_net_srv_ch_vpn_t = unsafe { std::mem::zeroed() };
                for _ in 0..times {
                    // SAFETY: a VPN channel without `ch`, and a header with `size` bytes behind it.
                    let code = unsafe {
                        client_tun::ch_sf_tun_addr_leased(&raw mut channel, packet.as_mut_ptr().cast(), size)
                    };
                    done.send(code).unwrap();
                }
            }));
            codes.iter().collect::<Vec<_>>()
        };
        // More than are judged: the device has this lease, so that the repetitions are not.
        assert_eq!(leased([10, 98, 0, 2], [10, 98, 0, 1], 20), [0; 20]);
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link_index("lo").unwrap();
        netlink.add_route(Ipv4Addr::new(10, 77, 0, 77), 32, None, Some(lo)).unwrap();
        assert_eq!(leased([10, 77, 0, 2], [10, 77, 0, 1], 200), [-2; 200]);
        assert_eq!(log_lines("ch_sf_tun_addr_leased").len(), 1, "{:#?}", log_lines("ch_sf_tun_addr_leased"));
        // The budget is used up, so that a reply without a collision has to wait; the device stays.
        assert_eq!(leased([10, 66, 0, 2], [10, 66, 0, 1], 1), [-2]);
        assert_eq!(leased([10, 98, 0, 2], [10, 98, 0, 1], 1), [0]);
        client_tun::dap_chain_net_vpn_client_tun_delete();
        drop((running, server));
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
