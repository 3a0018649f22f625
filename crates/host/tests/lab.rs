//! Namespaces and cables, on the real kernel.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, UdpSocket};

use host::lab::{Cable, LabError, Namespace, Plug, set_loopback_up};
use host::netlink::{Netlink, NetlinkError};
use testkit::netns::in_namespace;
use testkit::sockets::{echo, udp};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);

fn cable() -> Cable {
    let plug = |link: &str, address| Plug { link: link.to_owned(), address, prefix: 24 };
    Cable { near: plug("lab-near", NEAR), far: plug("lab-far", FAR) }
}

fn links() -> Vec<String> {
    Netlink::open().unwrap().links().unwrap().into_iter().map(|link| link.name).collect()
}

#[test]
fn a_cable_carries_datagrams_between_two_namespaces() {
    in_namespace("a_cable_carries_datagrams_between_two_namespaces", || {
        let far = Namespace::new().unwrap();
        cable().connect(&far).unwrap();
        echo(&udp(NEAR), &far.run(|| udp(FAR)), b"there and back");
        assert_eq!(links(), ["lo", "lab-near"]);
        assert_eq!(far.run(links), ["lo", "lab-far"]);
    });
}

#[test]
fn a_cable_joins_two_namespaces_that_threads_hold() {
    in_namespace("a_cable_joins_two_namespaces_that_threads_hold", || {
        let (near, far) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let other = far.clone();
        near.run(move || cable().connect(&other)).unwrap();
        echo(&near.run(|| udp(NEAR)), &far.run(|| udp(FAR)), b"there and back");
        assert_eq!(links(), ["lo"], "the cable has no end here");
    });
}

#[test]
fn a_cable_vanishes_with_the_namespace_at_its_other_end() {
    in_namespace("a_cable_vanishes_with_the_namespace_at_its_other_end", || {
        let far = Namespace::new().unwrap();
        cable().connect(&far).unwrap();
        drop(far);
        testkit::eventually("the cable is gone", || links() == ["lo"]);
    });
}

#[test]
fn a_second_cable_of_the_same_name_is_refused() {
    in_namespace("a_second_cable_of_the_same_name_is_refused", || {
        let far = Namespace::new().unwrap();
        cable().connect(&far).unwrap();
        let error = cable().connect(&far).unwrap_err();
        assert!(matches!(error, LabError::Cable(NetlinkError::Kernel { errno: libc::EEXIST, .. })), "{error:?}");
        let message = error.to_string();
        assert!(
            message.starts_with("the network namespaces cannot be connected: add veth pair lab-near, lab-far: "),
            "{message}"
        );
    });
}

#[test]
fn loopback_of_a_new_namespace_is_down_until_it_is_set_up() {
    in_namespace("loopback_of_a_new_namespace_is_down_until_it_is_set_up", || {
        let namespace = Namespace::new().unwrap();
        let reaches_itself = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.send_to(b"me", socket.local_addr()?)
        };
        assert!(namespace.run(reaches_itself).is_err());
        namespace.run(set_loopback_up).unwrap();
        assert_eq!(namespace.run(reaches_itself).unwrap(), 2);
    });
}
