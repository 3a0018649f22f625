//! The names by which packets are counted.

use vpn_core::forward::DropCause;

#[test]
fn the_document_of_the_wire_has_each_cause() {
    let document = include_str!("../../docs/wire.md");
    let missing = |cause: &DropCause| !document.contains(&format!("`{}`", cause.name()));
    assert_eq!(DropCause::ALL.into_iter().filter(missing).collect::<Vec<_>>(), []);
}
