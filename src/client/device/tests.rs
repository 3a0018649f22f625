use super::*;

/// C may write packets to the descriptor of a device that it created: a header in front would become part of them.
#[test]
fn a_device_that_c_makes_has_no_offload() {
    let settings = Settings::new(Ipv4Addr::new(10, 0, 1, 2), Ipv4Addr::new(10, 0, 1, 1));
    assert!(!settings.offload && settings.bundle == 0);
}

#[test]
fn a_reply_without_a_mask_gets_the_smallest_prefix_that_holds_both_addresses() {
    let prefix = |addr: [u8; 4], gateway: [u8; 4]| Settings::new(addr.into(), gateway.into()).prefix;
    assert_eq!(prefix([10, 0, 1, 100], [10, 0, 1, 1]), 24);
    assert_eq!(prefix([10, 0, 1, 2], [10, 0, 1, 1]), 24);
    assert_eq!(prefix([10, 0, 3, 2], [10, 0, 0, 1]), 22);
    assert_eq!(prefix([172, 16, 0, 2], [10, 0, 0, 1]), 8);
}

#[test]
fn the_smaller_mtu_counts() {
    let mtu = |theirs, ours| {
        let (addr, gateway) = (Ipv4Addr::new(10, 0, 1, 2), Ipv4Addr::new(10, 0, 1, 1));
        Settings::from_offer(&Offer { addr, gateway, prefix: 24, mtu: theirs, bundle: 0 }, ours).mtu
    };
    assert_eq!(mtu(None, 1390), 1390);
    assert_eq!(mtu(None, 9000), 9000);
    assert_eq!(mtu(Some(8000), 9000), 8000);
    assert_eq!(mtu(Some(9000), 8000), 8000);
    assert_eq!(mtu(Some(1400), 1390), 1390);
    assert_eq!(mtu(Some(1), 1390), 576);
}
