//! TUN devices and netlink against the real kernel, each test in a network namespace of its own.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use host::netlink::{Netlink, NetlinkError, OUR_ROUTE, RouteEntry};
use host::tun::{Device, DeviceConfig, DeviceState, Queue, TunError};
use testkit::eventually;
use testkit::inner::{DF, Ip, Sum};
use testkit::netns::in_namespace;
use vpn_core::forward::{Bundler, Offload, Peer};
use vpn_core::wire::{BUNDLE_HEADROOM, VNET_LEN, VnetHeader};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const NO_OFFLOAD: VnetHeader =
    VnetHeader { flags: 0, gso_type: VnetHeader::GSO_NONE, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };
const WAIT: Duration = Duration::from_secs(5);

fn config(queues: usize) -> DeviceConfig {
    DeviceConfig { name: None, queues, addr: HOST, prefix: 24, mtu: 1380, txqlen: Some(900), offload: false }
}

fn named(name: &str, queues: usize) -> DeviceConfig {
    DeviceConfig { name: Some(name.into()), ..config(queues) }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn is_missing(name: &str) -> bool {
    matches!(Netlink::open().unwrap().link_index(name), Err(NetlinkError::NotFound(_)))
}

#[test]
fn a_device_appears_as_configured_and_vanishes_when_dropped() {
    in_namespace("a_device_appears_as_configured_and_vanishes_when_dropped", || {
        for queues in [1, 4] {
            let (device, opened) = Device::create(&config(queues)).unwrap();
            assert_eq!(opened.len(), queues);
            assert_eq!(device.name(), "tun0");
            assert_eq!((device.addr(), device.prefix(), device.mtu()), (HOST, 24, 1380));
            assert_eq!(device.is_up().unwrap(), Some(true));

            let mut netlink = Netlink::open().unwrap();
            let link = netlink.link(device.index()).unwrap();
            assert_eq!((link.name.as_str(), link.up, link.mtu, link.txqlen), ("tun0", true, 1380, 900));
            let addresses = netlink.addresses().unwrap();
            let mine: Vec<_> = addresses.iter().filter(|address| address.index == device.index()).collect();
            assert!(matches!(mine.as_slice(), [one] if (one.addr, one.prefix) == (HOST, 24)), "{addresses:?}");
            let routes = netlink.routes().unwrap();
            let subnet = routes.iter().find(|route| route.destination == Ipv4Addr::new(10, 77, 0, 0)).unwrap();
            assert_eq!((subnet.prefix, subnet.gateway, subnet.index), (24, None, Some(device.index())));
            for (key, expected) in [("ipv4/conf/tun0/send_redirects", "0"), ("ipv6/conf/tun0/disable_ipv6", "1")] {
                let path = format!("/proc/sys/net/{key}");
                // The file is read-only in many containers, and the second is missing without IPv6; the device copes
                // with both.
                if std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
                    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), expected, "{key}");
                }
            }

            drop(opened);
            drop(device);
            assert!(is_missing("tun0"), "{queues} queues");
        }
    });
}

#[test]
fn dropping_the_device_or_all_queues_removes_the_link() {
    in_namespace("dropping_the_device_or_all_queues_removes_the_link", || {
        let mut buf = [0; 2048];
        for queues in [1, 3] {
            let (device, opened) = Device::create(&named("vpn-life", queues)).unwrap();
            drop(device);
            assert!(is_missing("vpn-life"), "the device is dropped, its queues are open");
            for queue in &opened {
                assert_eq!(queue.recv(&mut buf).unwrap_err().raw_os_error(), Some(libc::EBADFD));
                assert_eq!(queue.send(&NO_OFFLOAD, &buf).unwrap_err().raw_os_error(), Some(libc::EBADFD));
            }
            drop(opened);

            let (device, opened) = Device::create(&named("vpn-life", queues)).unwrap();
            drop(opened);
            assert!(is_missing("vpn-life"), "the queues are dropped, the device is held");
            assert_eq!(device.is_up().unwrap(), None);
            // A device that is gone must not delete another link of that index or name when it is dropped.
            Netlink::open().unwrap().add_veth("vpn-life", "vpn-other").unwrap();
            drop(device);
            assert!(!is_missing("vpn-life"));
            let mut netlink = Netlink::open().unwrap();
            let index = netlink.link_index("vpn-life").unwrap();
            netlink.del_link(index).unwrap();
        }
    });
}

#[test]
fn whole_packets_cross_in_both_directions() {
    in_namespace("whole_packets_cross_in_both_directions", || {
        for queues in [1, 4] {
            let (_device, opened) = Device::create(&config(queues)).unwrap();
            let mut buf = vec![0; 65536];
            for (round, length) in [0, 1, 700, 1380 - 28].into_iter().cycle().take(40).enumerate() {
                let socket = UdpSocket::bind((HOST, 0)).unwrap();
                socket.set_read_timeout(Some(WAIT)).unwrap();
                let port = socket.local_addr().unwrap().port();
                let payload: Vec<u8> = (0..length).map(|at| (at * 7 + round) as u8).collect();

                socket.send_to(&payload, (PEER, 4242)).unwrap();
                let packet = first_packet(&opened, &mut buf).to_vec();
                assert_eq!(packet.len(), 28 + length);
                assert_eq!((packet[0], packet[9]), (0x45, 17), "IPv4 without options, UDP");
                assert_eq!((&packet[12..16], &packet[16..20]), (&HOST.octets()[..], &PEER.octets()[..]));
                assert_eq!((&packet[20..22], &packet[22..24]), (&port.to_be_bytes()[..], &4242u16.to_be_bytes()[..]));
                assert_eq!(packet[28..], payload);

                let answer: Vec<u8> = payload.iter().rev().map(|byte| byte ^ 0x5a).collect();
                let packet = udp_packet((PEER, 4242), (HOST, port), &answer);
                opened[round % queues].send(&NO_OFFLOAD, &packet).unwrap();
                let (got, from) = socket.recv_from(&mut buf).unwrap();
                assert_eq!((&buf[..got], from), (answer.as_slice(), SocketAddr::from((PEER, 4242))));
            }
        }
    });
}

/// The SDK's loop reads one packet before it calls the handler.
#[test]
fn a_packet_that_the_loop_has_read_becomes_a_bundle_in_place() {
    in_namespace("a_packet_that_the_loop_has_read_becomes_a_bundle_in_place", || {
        for offload in [false, true] {
            let (_device, queues) = Device::create(&DeviceConfig { offload, ..config(1) }).unwrap();
            assert_eq!(queues[0].has_offload(), offload);
            let socket = UdpSocket::bind((HOST, 0)).unwrap();
            socket.send_to(b"a datagram", (PEER, 4242)).unwrap();
            let mut read = vec![0xee; BUNDLE_HEADROOM + 2048];
            let deadline = Instant::now() + WAIT;
            let length = loop {
                let length = rustix::io::read(&queues[0], &mut read[BUNDLE_HEADROOM..]).unwrap_or(0);
                let header = if offload { VNET_LEN } else { 0 };
                if length > 0 && read[BUNDLE_HEADROOM + header] >> 4 == 4 {
                    break length;
                }
                assert!(Instant::now() < deadline, "no packet");
                std::thread::sleep(Duration::from_micros(200));
            };
            let (memory, filled) = queues[0].lend(&mut read[..BUNDLE_HEADROOM + length]).unwrap();
            let mut bundler = Bundler::over(memory);
            let (view, found, load) = bundler.check(filled).unwrap();
            assert_eq!((view.source, view.destination, load.bytes), (HOST, PEER, 28 + 10));
            assert_eq!(found != Offload::None, offload, "with offload the checksum is left to us");

            let peer = Peer { bundle_op: 0xbf, plain_op: 0xbd, usage_id: 7, largest: 65_535 };
            bundler.take(filled, &found, load, &peer, |_, _| panic!("it may wait for others"));
            let mut sent = Vec::new();
            bundler.flush(0, &peer, |packet, _| sent.push(packet.to_vec()));
            assert_eq!(sent.len(), 1);
            assert!(sent[0].ends_with(b"a datagram"));
            assert_eq!(sent[0][4], if offload { 0xbf } else { 0xbd });
        }
        let (_device, queues) = Device::create(&config(1)).unwrap();
        assert!(queues[0].lend(&mut [0; BUNDLE_HEADROOM]).is_none());
        assert!(queues[0].lend(&mut []).is_none());
    });
}

#[test]
fn other_bytes_than_an_ip_packet_are_refused_and_the_queue_stays_usable() {
    in_namespace("other_bytes_than_an_ip_packet_are_refused_and_the_queue_stays_usable", || {
        let (device, opened) = Device::create(&config(1)).unwrap();
        let queue = &opened[0];
        for garbage in [&[][..], &[0x00; 40], &[0xf0; 40]] {
            assert_eq!(queue.send(&NO_OFFLOAD, garbage).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{garbage:?}");
        }
        let packet = udp_packet((PEER, 1), (HOST, 2), b"x");
        queue.send(&NO_OFFLOAD, &packet).unwrap();
        Netlink::open().unwrap().set_down(device.index()).unwrap();
        assert_eq!(device.is_up().unwrap(), Some(false));
        assert_eq!(queue.send(&NO_OFFLOAD, &packet).unwrap_err().raw_os_error(), Some(libc::EIO));
    });
}

/// What an administrator can do to a device, and how it gets back what was taken.
#[test]
fn the_state_of_a_device_is_what_the_host_has_made_of_it() {
    in_namespace("the_state_of_a_device_is_what_the_host_has_made_of_it", || {
        let (device, _queues) = Device::create(&named("vpn-own", 2)).unwrap();
        let mut netlink = Netlink::open().unwrap();
        let index = device.index();
        assert_eq!(device.state().unwrap(), DeviceState::Up);
        netlink.del_route(Ipv4Addr::new(10, 77, 0, 0), 24, None, Some(index)).unwrap();
        assert_eq!(device.state().unwrap(), DeviceState::NoRoute);
        // Another route into it does as well.
        netlink.add_route(Ipv4Addr::new(10, 77, 0, 0), 16, None, Some(index)).unwrap();
        assert_eq!(device.state().unwrap(), DeviceState::Up);
        netlink.del_route(Ipv4Addr::new(10, 77, 0, 0), 16, None, Some(index)).unwrap();
        device.restore().unwrap();
        assert_eq!(device.state().unwrap(), DeviceState::Up);
        netlink.del_address(index, HOST, 24).unwrap();
        assert_eq!(device.state().unwrap(), DeviceState::NoAddress);
        device.restore().unwrap();
        device.restore().unwrap();
        assert_eq!(device.state().unwrap(), DeviceState::Up);
        netlink.set_down(index).unwrap();
        assert_eq!(device.state().unwrap(), DeviceState::Down);
        netlink.rename(index, "vpn-new").unwrap();
        netlink.set_up(index).unwrap();
        assert_eq!((device.state().unwrap(), device.name().as_str()), (DeviceState::Up, "vpn-new"));
        let elsewhere = Neighbour::start();
        netlink.set_netns_by_pid(index, elsewhere.0.id()).unwrap();
        assert_eq!(device.state().unwrap(), DeviceState::Gone);
    });
}

/// The descriptor of a queue outlasts its device.
#[test]
fn a_queue_takes_the_place_of_one_whose_device_is_gone() {
    in_namespace("a_queue_takes_the_place_of_one_whose_device_is_gone", || {
        let (device, old) = Device::create(&named("vpn-gone", 2)).unwrap();
        let numbers: Vec<_> = old.iter().map(|queue| queue.as_raw_fd()).collect();
        drop(device);
        assert_eq!(old[0].recv(&mut [0; 2048]).unwrap_err().raw_os_error(), Some(libc::EBADFD));
        let (_device, new) = Device::create(&named("vpn-gone", 2)).unwrap();
        let before = open_descriptors();
        for (old, new) in old.iter().zip(new) {
            old.replace(new).unwrap();
        }
        assert_eq!(open_descriptors(), before - 2);
        assert_eq!(old.iter().map(|queue| queue.as_raw_fd()).collect::<Vec<_>>(), numbers);
        UdpSocket::bind((HOST, 0)).unwrap().send_to(b"to the new device", (PEER, 1)).unwrap();
        assert!(first_packet(&old, &mut [0; 2048]).ends_with(b"to the new device"));
        let (_other, plain) = Device::create(&DeviceConfig {
            addr: Ipv4Addr::new(10, 78, 0, 1),
            offload: !old[0].has_offload(),
            ..named("vpn-plain", 1)
        })
        .unwrap();
        if plain[0].has_offload() != old[0].has_offload() {
            let error = old[0].replace(plain.into_iter().next().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    });
}

#[test]
fn descriptors_do_not_block_and_do_not_survive_exec() {
    in_namespace("descriptors_do_not_block_and_do_not_survive_exec", || {
        for queues in [1, 2] {
            let (_device, opened) = Device::create(&config(queues)).unwrap();
            for queue in opened {
                let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", queue.as_raw_fd())).unwrap();
                let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
                let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
                assert_eq!(flags & libc::O_NONBLOCK, libc::O_NONBLOCK);
                assert_eq!(flags & libc::O_CLOEXEC, libc::O_CLOEXEC);
                // The loop ends with `None`; it does not wait for a packet.
                while queue.recv(&mut [0; 2048]).unwrap().is_some() {}
            }
        }
    });
}

#[test]
fn a_taken_name_is_a_clear_error_and_its_owner_stays() {
    in_namespace("a_taken_name_is_a_clear_error_and_its_owner_stays", || {
        let (device, _queues) = Device::create(&named("vpn-taken", 2)).unwrap();
        Netlink::open().unwrap().add_veth("vpn-veth", "vpn-far").unwrap();
        for name in ["vpn-taken", "vpn-veth", "lo"] {
            for queues in [1, 2] {
                let error = Device::create(&named(name, queues)).unwrap_err();
                let TunError::Create { name: said, source } = &error else { panic!("{error:?}") };
                assert_eq!((said.as_str(), source.kind()), (name, ErrorKind::AlreadyExists));
                assert!(!is_missing(name));
            }
        }
        assert_eq!(device.is_up().unwrap(), Some(true));
    });
}

#[test]
fn a_name_pattern_is_filled_in_by_the_kernel() {
    in_namespace("a_name_pattern_is_filled_in_by_the_kernel", || {
        let (first, _queues) = Device::create(&named("vpn%d", 1)).unwrap();
        let other = DeviceConfig { addr: Ipv4Addr::new(10, 78, 0, 1), ..named("vpn%d", 3) };
        let (second, queues) = Device::create(&other).unwrap();
        assert_eq!((&*first.name(), &*second.name(), queues.len()), ("vpn0", "vpn1", 3));
    });
}

#[test]
fn a_renamed_device_stays_up_and_is_removed() {
    in_namespace("a_renamed_device_stays_up_and_is_removed", || {
        let (first, _queues) = Device::create(&named("vpn-a", 1)).unwrap();
        let other = DeviceConfig { addr: Ipv4Addr::new(10, 78, 0, 1), ..named("vpn-b", 1) };
        let (second, _queues) = Device::create(&other).unwrap();
        assert_eq!(second.rename("vpn-a").unwrap_err().errno(), libc::EEXIST);
        assert_eq!((&*second.name(), second.is_up().unwrap()), ("vpn-b", Some(true)));
        first.remove();
        assert!(is_missing("vpn-a"));
        second.rename("vpn-a").unwrap();
        assert_eq!((&*second.name(), second.is_up().unwrap()), ("vpn-a", Some(true)));
        assert!(is_missing("vpn-b"));
        // The first device's end must not take the other one that has its name now.
        drop(first);
        assert_eq!(second.is_up().unwrap(), Some(true));
        drop(second);
        assert!(is_missing("vpn-a"));
    });
}

#[test]
fn a_failed_creation_leaves_nothing() {
    in_namespace("a_failed_creation_leaves_nothing", || {
        let before = open_descriptors();
        for queues in [1, 4] {
            // The address is set after the device exists and has its MTU.
            let error = Device::create(&DeviceConfig { prefix: 33, ..named("vpn-bad", queues) }).unwrap_err();
            assert!(matches!(error, TunError::Netlink(NetlinkError::Kernel { .. })), "{error:?}");
            assert!(error.to_string().starts_with("add address 10.77.0.1/33 to link "), "{error}");
            assert!(is_missing("vpn-bad"));
            // Only the kernel knows that this name is invalid.
            let error = Device::create(&named("a/b", queues)).unwrap_err();
            assert!(matches!(error, TunError::Create { .. }), "{error:?}");
            assert!(matches!(Device::create(&DeviceConfig { mtu: 67, ..config(queues) }), Err(TunError::BadMtu(67))));
        }
        assert!(matches!(Device::create(&config(257)), Err(TunError::TooManyQueues(257))));
        assert_eq!(open_descriptors(), before);
        assert_eq!(Netlink::open().unwrap().links().unwrap().iter().filter(|link| link.name != "lo").count(), 0);
    });
}

#[test]
fn a_device_can_have_256_queues() {
    in_namespace("a_device_can_have_256_queues", || {
        let (device, queues) = Device::create(&config(256)).unwrap();
        let distinct: HashSet<_> = queues.iter().map(AsRawFd::as_raw_fd).collect();
        assert_eq!(distinct.len(), 256);
        assert_eq!(device.is_up().unwrap(), Some(true));
    });
}

#[test]
fn two_hundred_devices_leave_no_descriptor() {
    in_namespace("two_hundred_devices_leave_no_descriptor", || {
        let before = open_descriptors();
        for round in 0..200 {
            let (device, queues) = Device::create(&config(1 + round % 4)).unwrap();
            assert!(open_descriptors() > before);
            // Both orders of dropping.
            if round % 2 == 0 {
                drop(device);
            }
            drop(queues);
        }
        assert_eq!(open_descriptors(), before);
        assert!(is_missing("tun0"));
    });
}

#[test]
fn an_overlap_with_an_address_of_the_host_is_found() {
    in_namespace("an_overlap_with_an_address_of_the_host_is_found", || {
        let mut netlink = Netlink::open().unwrap();
        let overlapping = |netlink: &mut Netlink| {
            let addresses = netlink.addresses().unwrap();
            addresses.into_iter().find(|address| address.overlaps(Ipv4Addr::new(10, 77, 0, 0), 16))
        };
        assert_eq!(overlapping(&mut netlink), None);
        netlink.add_veth("vpn-lan", "vpn-far").unwrap();
        let lan = netlink.link_index("vpn-lan").unwrap();
        netlink.add_address(lan, Ipv4Addr::new(10, 76, 255, 254), 16).unwrap();
        assert_eq!(overlapping(&mut netlink), None, "the network next door");
        netlink.add_address(lan, Ipv4Addr::new(10, 77, 200, 9), 30).unwrap();
        let found = overlapping(&mut netlink).unwrap();
        assert_eq!((found.index, found.addr, found.prefix), (lan, Ipv4Addr::new(10, 77, 200, 9), 30));
        netlink.del_address(lan, found.addr, found.prefix).unwrap();
        assert_eq!(overlapping(&mut netlink), None);
        // The address of this library's own device, which is up, overlaps too.
        let (device, _queues) = Device::create(&config(1)).unwrap();
        assert_eq!(overlapping(&mut netlink).unwrap().index, device.index());
    });
}

#[test]
fn links_are_created_changed_and_deleted() {
    in_namespace("links_are_created_changed_and_deleted", || {
        let mut netlink = Netlink::open().unwrap();
        netlink.add_veth("vpn-a", "vpn-b").unwrap();
        let index = netlink.link_index("vpn-a").unwrap();
        netlink.set_mtu(index, 1280).unwrap();
        netlink.set_txqlen(index, 77).unwrap();
        netlink.rename(index, "vpn-c").unwrap();
        netlink.set_up(index).unwrap();
        netlink.set_up(index).unwrap();
        let link = netlink.link(index).unwrap();
        assert_eq!((link.name.as_str(), link.up, link.mtu, link.txqlen), ("vpn-c", true, 1280, 77));
        netlink.set_down(index).unwrap();
        assert!(!netlink.link(index).unwrap().up);
        let names: HashSet<_> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(names, HashSet::from(["lo".to_owned(), "vpn-b".to_owned(), "vpn-c".to_owned()]));

        let error = netlink.add_veth("vpn-c", "vpn-d").unwrap_err();
        assert_eq!(error.to_string(), "add veth pair vpn-c, vpn-d: File exists (os error 17)");
        let error = netlink.set_mtu(index, 1 << 24).unwrap_err();
        assert!(error.to_string().starts_with(&format!("set MTU 16777216 on link {index}: ")), "{error}");
        netlink.del_link(index).unwrap();
        assert!(is_missing("vpn-c") && is_missing("vpn-b"), "both ends of the pair");
        assert!(matches!(netlink.del_link(index), Err(NetlinkError::NotFound(_))));
    });
}

#[test]
fn routes_are_added_found_and_deleted() {
    in_namespace("routes_are_added_found_and_deleted", || {
        let mut netlink = Netlink::open().unwrap();
        let (device, _queues) = Device::create(&config(1)).unwrap();
        let index = device.index();
        let (near, far) = (Ipv4Addr::new(128, 0, 0, 0), Ipv4Addr::new(192, 0, 2, 7));
        netlink.add_route(near, 1, None, Some(index)).unwrap();
        netlink.add_route(far, 32, Some(PEER), None).unwrap();
        let routes = netlink.routes().unwrap();
        let find = |to| routes.iter().find(|route| route.destination == to).copied().unwrap();
        assert_eq!((find(near).prefix, find(near).gateway, find(near).index), (1, None, Some(index)));
        assert_eq!((find(far).prefix, find(far).gateway, find(far).index), (32, Some(PEER), Some(index)));
        assert!(routes.iter().all(|route| route.table == 254), "{routes:?}");

        let error = netlink.add_route(far, 32, Some(PEER), Some(index)).unwrap_err();
        let what = format!("add route 192.0.2.7/32 via 10.77.0.2 on link {index}: File exists (os error 17)");
        assert_eq!((error.to_string(), error.errno()), (what, Some(libc::EEXIST)));
        let error = netlink.add_address(index, HOST, 24).unwrap_err();
        assert_eq!(error.to_string(), format!("add address 10.77.0.1/24 to link {index}: File exists (os error 17)"));
        let unreachable = netlink.add_route(far, 24, Some(Ipv4Addr::new(192, 168, 9, 9)), Some(4000));
        assert!(unreachable.is_err());

        netlink.del_route(near, 1, None, Some(index)).unwrap();
        netlink.del_route(far, 32, Some(PEER), None).unwrap();
        assert_eq!(netlink.del_route(far, 32, None, None).unwrap_err().errno(), Some(libc::ESRCH));
        assert_eq!(netlink.routes().unwrap().len(), 1, "the device's own subnet");
    });
}

/// A route of another link to the same network moves in one step, and ends with its link.
#[test]
fn set_routes_move_between_links_and_end_with_them() {
    in_namespace("set_routes_move_between_links_and_end_with_them", || {
        let (one, _queues) = Device::create(&config(1)).unwrap();
        let other_config = DeviceConfig { addr: Ipv4Addr::new(10, 99, 0, 2), ..config(1) };
        let (other, _other_queues) = Device::create(&other_config).unwrap();
        let mut netlink = Netlink::open().unwrap();
        let network = (Ipv4Addr::new(198, 18, 0, 0), 15);
        let links = |netlink: &mut Netlink| -> Vec<Option<u32>> {
            let ours = |route: &RouteEntry| route.protocol == OUR_ROUTE && (route.destination, route.prefix) == network;
            netlink.routes_in_use().unwrap().into_iter().filter(ours).map(|route| route.index).collect()
        };
        for device in [&one, &one, &other] {
            netlink.set_route(device.index(), network, device.addr()).unwrap();
            assert_eq!(links(&mut netlink), [Some(device.index())]);
        }
        netlink.unset_route(other.index(), network).unwrap();
        assert_eq!(netlink.unset_route(other.index(), network).unwrap_err().errno(), Some(libc::ESRCH));
        netlink.set_route(one.index(), network, one.addr()).unwrap();
        drop(one);
        assert_eq!(links(&mut netlink), []);
    });
}

/// The listings exceed one datagram of a dump.
#[test]
fn long_listings_are_complete() {
    in_namespace("long_listings_are_complete", || {
        let mut netlink = Netlink::open().unwrap();
        for pair in 0..60 {
            netlink.add_veth(&format!("va{pair}"), &format!("vb{pair}")).unwrap();
        }
        assert_eq!(netlink.links().unwrap().len(), 121);
        let (device, _queues) = Device::create(&config(1)).unwrap();
        for host in 0..2000u32 {
            let destination = Ipv4Addr::from(0xac10_0000 + host);
            netlink.add_route(destination, 32, None, Some(device.index())).unwrap();
        }
        let seen: HashSet<_> = netlink.routes().unwrap().into_iter().map(|route| route.destination).collect();
        assert_eq!(seen.len(), 2001);
        for host in 0..500u32 {
            netlink.add_address(device.index(), Ipv4Addr::from(0xac20_0001 + host), 32).unwrap();
        }
        assert_eq!(netlink.addresses().unwrap().len(), 501);
    });
}

#[test]
fn a_link_moves_to_the_namespace_of_a_process() {
    in_namespace("a_link_moves_to_the_namespace_of_a_process", || {
        let mut netlink = Netlink::open().unwrap();
        netlink.add_veth("vpn-here", "vpn-there").unwrap();
        let there = netlink.link_index("vpn-there").unwrap();
        let other = Neighbour::start();
        netlink.set_netns_by_pid(there, other.0.id()).unwrap();
        assert!(is_missing("vpn-there"));
        let devices = std::fs::read_to_string(format!("/proc/{}/net/dev", other.0.id())).unwrap();
        assert!(devices.contains("vpn-there:"), "{devices}");
        let error = netlink.set_netns_by_pid(there, other.0.id()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("move link {there} to the network namespace of")), "{error}");
    });
}

/// A process in a network namespace of its own.
struct Neighbour(Child);

impl Neighbour {
    fn start() -> Neighbour {
        let child = Command::new("unshare").args(["--net", "sleep", "60"]).stdin(Stdio::null()).spawn().unwrap();
        let neighbour = Neighbour(child);
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let pid = neighbour.0.id().to_string();
        eventually("the other namespace comes", || namespace(&pid) != namespace("self"));
        neighbour
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the first IPv4 packet on any queue. Where /proc/sys is read-only, the kernel also sends IPv6 packets.
fn first_packet<'a>(queues: &[Queue], buf: &'a mut [u8]) -> &'a [u8] {
    let deadline = Instant::now() + WAIT;
    loop {
        for queue in queues {
            if let Some(length) = queue.recv(buf).unwrap()
                && buf[VNET_LEN] >> 4 == 4
            {
                return &buf[VNET_LEN..length];
            }
        }
        assert!(Instant::now() < deadline, "no packet on any queue");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// An IPv4 packet with a UDP datagram.
fn udp_packet(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    Ip { fragment: DF, ..Ip::new(from.0, to.0) }.udp((from.1, to.1), payload, Sum::Right)
}
