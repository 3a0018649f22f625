use super::*;

const OWN: u32 = 9;

fn net(text: &str) -> Subnet {
    let (network, prefix) = text.split_once('/').unwrap();
    Subnet { network: network.parse().unwrap(), prefix: prefix.parse().unwrap() }
}

fn address(index: u32, text: &str) -> Address {
    let Subnet { network, prefix } = net(text);
    Address { index, addr: network, prefix }
}

fn route(to: &str, gateway: Option<&str>, index: Option<u32>) -> RouteEntry {
    let Subnet { network, prefix } = net(to);
    RouteEntry {
        destination: network,
        prefix,
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        index,
        metric: None,
        table: MAIN,
        kind: if index.is_some() { 1 } else { 6 },
        protocol: 3,
        has_foreign_gateway: false,
    }
}

/// Compares with the host whose link 1 is in 192.168.1.0/24, and which has these routes and name servers.
fn compared(subnet: &str, own: Option<Own>, routes: &[RouteEntry], resolvers: &[&str]) -> Result<(), String> {
    let resolvers = resolvers.iter().map(|addr| Resolver { addr: addr.parse().unwrap(), file: "/etc/resolv.conf" });
    let facts = Facts {
        addresses: vec![address(1, "192.168.1.7/24")],
        routes: routes.to_vec(),
        resolvers: resolvers.collect(),
    };
    compare(net(subnet), own, &facts, |index| format!("eth{index}")).map_err(|collision| collision.to_string())
}

#[test]
fn a_network_of_the_host_is_refused_in_each_relation() {
    for subnet in ["192.168.1.0/24", "192.168.0.0/16", "192.168.1.64/26"] {
        let error = compared(subnet, None, &[], &[]).unwrap_err();
        let says =
            format!("it gives the subnet {subnet}, which overlaps 192.168.1.0/24, this host's network on eth1; ");
        assert!(error.starts_with(&says) && error.ends_with("is expected"), "{error}");
    }
    assert_eq!(compared("192.168.2.0/24", None, &[], &[]), Ok(()));
    // A network without an address of the host in it: the peers of a point-to-point link.
    let peers = [route("10.9.0.0/16", None, Some(2))];
    for subnet in ["10.9.0.0/16", "10.0.0.0/8", "10.9.7.0/24"] {
        assert!(compared(subnet, None, &peers, &[]).unwrap_err().contains("10.9.0.0/16, this host's network on eth2"));
    }
}

#[test]
fn a_destination_is_refused_if_the_subnet_is_it_or_holds_it() {
    let company = route("10.20.0.0/16", Some("192.168.1.1"), Some(1));
    for (subnet, says) in [
        ("10.20.0.0/16", "which is 10.20.0.0/16, the destination of this host's route by 192.168.1.1 on eth1;"),
        ("10.0.0.0/8", "which holds 10.20.0.0/16, the destination of this host's route by 192.168.1.1 on eth1;"),
    ] {
        let error = compared(subnet, None, &[company], &[]).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(compared("10.20.30.0/24", None, &[company], &[]), Ok(()), "only a warning");
    assert_eq!(compared("10.21.0.0/16", None, &[company], &[]), Ok(()));
    let discards = [route("10.0.0.0/8", None, None)];
    assert!(compared("10.0.0.0/8", None, &discards, &[]).unwrap_err().contains("that leads nowhere"));
    assert_eq!(compared("10.98.0.0/24", None, &discards, &[]), Ok(()));
    let elsewhere = [RouteEntry { table: 52, ..route("100.100.100.100/32", None, Some(3)) }];
    assert!(compared("100.64.0.0/10", None, &elsewhere, &[]).is_err());
    let by_host = [RouteEntry { table: 52, ..route("10.98.0.9/32", Some("192.168.1.1"), Some(1)) }];
    assert!(compared("10.98.0.0/24", None, &by_host, &[]).unwrap_err().contains("on eth1 in table 52"));
}

#[test]
fn the_default_route_and_its_halves_are_no_destination_but_their_gateways_count() {
    let everything = ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"];
    for to in everything {
        assert_eq!(compared("10.98.0.0/24", None, &[route(to, Some("192.168.1.1"), Some(1))], &[]), Ok(()));
        assert_eq!(compared("10.98.0.0/24", None, &[route(to, None, Some(2))], &[]), Ok(()));
        let error = compared("10.98.0.0/24", None, &[route(to, Some("10.98.0.7"), Some(1))], &[]).unwrap_err();
        assert!(error.contains(&format!("holds 10.98.0.7, the gateway of this host's route to {to};")), "{error}");
    }
    // Another VPN's quarter of everything is a network like any other.
    assert!(compared("10.98.0.0/24", None, &[route("0.0.0.0/2", None, Some(2))], &[]).is_err());
}

#[test]
fn a_name_server_is_refused() {
    let error = compared("10.98.0.0/24", None, &[], &["192.168.1.1", "10.98.0.53"]).unwrap_err();
    assert!(error.contains("holds 10.98.0.53, a name server of this host in /etc/resolv.conf;"), "{error}");
    assert_eq!(compared("10.98.0.0/24", None, &[], &["192.168.1.1", "10.99.0.53"]), Ok(()));
}

/// A reconnection finds the device of the lost one, with its routes, and perhaps the tunnel's name server in use.
#[test]
fn the_own_device_is_no_collision() {
    let own = Some(Own { index: OWN, network: net("10.98.0.2/24") });
    let routes = [
        route("10.98.0.0/24", None, Some(OWN)),
        route("10.30.0.0/16", Some("10.98.0.1"), Some(OWN)),
        route("0.0.0.0/1", Some("10.98.0.1"), Some(OWN)),
    ];
    assert_eq!(compared("10.98.0.0/24", own, &routes, &["10.98.0.1"]), Ok(()));
    assert!(compared("10.98.0.0/24", None, &routes, &[]).is_err());
    assert!(compared("10.98.0.0/24", None, &[], &["10.98.0.1"]).is_err());
    assert!(compared("10.0.0.0/8", own, &routes, &["10.99.0.1"]).is_err(), "a name server elsewhere");
}

/// A legacy part does not name its device, which stays when a connection is lost, and has the address of the last lease.
#[test]
fn the_device_of_a_lost_connection_is_known_by_its_address() {
    let left = address(OWN, "10.98.0.2/24");
    let facts = Facts {
        addresses: vec![address(1, "192.168.1.7/24"), left],
        routes: vec![route("10.98.0.0/24", None, Some(OWN))],
        resolvers: Vec::new(),
    };
    let judged = |own| compare(net("10.98.0.0/24"), own, &facts, |index| format!("tun{index}"));
    assert!(judged(None).is_err());
    let own = Own::with_address(left.addr, &facts.addresses);
    assert_eq!(own.map(|own| own.index), Some(OWN));
    assert!(judged(own).is_ok());
    assert_eq!(Own::with_address(Ipv4Addr::new(10, 98, 0, 3), &facts.addresses), None);
}
