//! The server's inner network as operators configure it for the C module: with bits outside the netmask, or over a
//! network that the host is in.

use std::net::Ipv4Addr;
use std::time::Duration;

use host::netlink::Netlink;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::noise;
use testkit::program::Running;
use testkit::sockets::{echo, udp, udp_at};
use testkit::tun_devices;
use testkit::tunnel::Client;

use crate::PROGRAM;

/// The warnings of a server, without time and target.
fn warnings(server: &Running) -> Vec<String> {
    let lines = |log: String| {
        let warned = log.lines().filter(|line| line.contains(" WARN ")).filter(|line| line.contains("[srv_vpn]"));
        warned.filter_map(|line| Some(line.split_once(": ")?.1.to_owned())).collect::<Vec<_>>()
    };
    lines(server.log())
}

/// Starts a server with this network; its host has the address `own` on the cable of the second client's host.
fn server(hosts: &Hosts, own: Option<(Ipv4Addr, u8)>, network: &str, mask: &str) -> Running {
    if let Some((address, prefix)) = own {
        let mut netlink = Netlink::open().unwrap();
        let cable = netlink.link_index("near1").unwrap();
        netlink.add_address(cable, address, prefix).unwrap();
    }
    let keys = format!("[srv_vpn]\nnetwork_address={network}\nnetwork_mask={mask}\n");
    hosts.server_with("server", &["--config", &hosts.config(&keys)]).0
}

/// Sends datagrams both ways between a client and the server's inner address.
fn talk(hosts: &Hosts, client: &Client) {
    let (near, far) = (udp(client.gateway), udp_at(hosts.at(0), client.address));
    echo(&far, &near, &noise(1, 900));
    echo(&near, &far, &noise(2, 900));
}

#[test]
fn bits_outside_the_netmask_make_the_gateway_of_the_c_module() {
    in_namespace("networks::bits_outside_the_netmask_make_the_gateway_of_the_c_module", || {
        let hosts = Hosts::new(PROGRAM);
        let server = server(&hosts, None, "10.11.12.0", "255.255.0.0");
        let warned = "[srv_vpn] network_address = 10.11.12.0: is no network address with network_mask = 255.255.0.0; the \
                      server has 10.11.12.1 in 10.11.0.0/16, and clients get the addresses behind it; expected 10.11.0.0";
        assert_eq!(warnings(&server), [warned], "{}", server.log());
        assert!(server.stdout().contains("network 10.11.0.0/16"), "{}", server.stdout());
        let gateway = Ipv4Addr::new(10, 11, 12, 1);
        assert_eq!(tun_devices()[0].1, [(gateway, 16)]);
        let client = Client::connect(&hosts, 0, "client", &[]);
        assert_eq!((client.address, client.gateway), (Ipv4Addr::new(10, 11, 12, 2), gateway));
        assert_eq!(hosts.at(0).run(tun_devices)[0].1, [(client.address, 16)]);
        talk(&hosts, &client);
    });
}

/// The tunnel's network is a part of one that the host is in: the kernel sends packets to clients into the tunnel.
#[test]
fn a_network_inside_one_of_the_hosts_serves_with_a_warning() {
    in_namespace("networks::a_network_inside_one_of_the_hosts_serves_with_a_warning", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let server = server(&hosts, Some((Ipv4Addr::new(10, 98, 7, 1), 16)), "10.98.0.0", "255.255.255.0");
        let warned = "[srv_vpn] network_address = 10.98.0.0: 10.98.0.0/24 overlaps this host's 10.98.7.1/16 on near1; \
                      packets to 10.98.0.0/24 go into the tunnel, and the hosts there are out of reach by near1; expected \
                      a network that this host has no address in";
        assert_eq!(warnings(&server), [warned], "{}", server.log());
        let client = Client::connect(&hosts, 0, "client", &[]);
        assert_eq!(client.address, Ipv4Addr::new(10, 98, 0, 2));
        talk(&hosts, &client);
    });
}

/// The host has the gateway's address and its network already: the service starts, as the C module did, and the warning
/// says what is lost. Clients still reach the server, and nobody reaches them.
#[test]
fn the_hosts_own_network_is_taken_and_the_warning_says_what_is_lost() {
    in_namespace("networks::the_hosts_own_network_is_taken_and_the_warning_says_what_is_lost", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let gateway = Ipv4Addr::new(10, 98, 0, 1);
        let server = server(&hosts, Some((gateway, 24)), "10.98.0.0", "255.255.255.0");
        let warned = "[srv_vpn] network_address = 10.98.0.0: 10.98.0.0/24 overlaps this host's 10.98.0.1/24 on near1; \
                      packets to 10.98.0.0/24 go to near1, and clients with such an address receive nothing; expected a \
                      network that this host has no address in";
        assert_eq!(warnings(&server), [warned], "{}", server.log());
        assert_eq!(tun_devices()[0].1, [(gateway, 24)]);
        let client = Client::connect(&hosts, 0, "client", &[]);
        assert_eq!((client.address, client.gateway), (Ipv4Addr::new(10, 98, 0, 2), gateway));
        let near = udp(gateway);
        near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let far = udp_at(hosts.at(0), client.address);
        far.send_to(b"up", near.local_addr().unwrap()).unwrap();
        let (len, from) = near.recv_from(&mut [0; 16]).unwrap();
        assert_eq!((len, from.ip()), (2, client.address.into()));
        near.send_to(b"down", from).unwrap();
        far.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        assert!(far.recv_from(&mut [0; 16]).is_err(), "the warning is wrong");
    });
}
