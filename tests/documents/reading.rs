//! Documents are read as they are shown.

use std::path::Path;

use crate::markdown::Document;

fn parse(text: &str) -> Document {
    Document::parse(Path::new("a.md"), text)
}

#[test]
fn headings_have_githubs_anchors() {
    let document = parse("# The client: `[vpn_client]`\n\n## On a node, over 2 paths\n\n## Limits\n\n## Limits\n");
    let anchors: Vec<&str> = document.headings.iter().map(|heading| heading.anchor.as_str()).collect();
    assert_eq!(anchors, ["the-client-vpn_client", "on-a-node-over-2-paths", "limits", "limits-1"]);
}

#[test]
fn links_know_the_section_beside_them() {
    let document = parse("See [b](b.md), \"The\nfirst\" and \"Other\" in [c](c.md#x); [d](d.md), others.\n");
    let links: Vec<_> = document.links.iter().map(|link| (link.target.as_str(), link.section.as_deref())).collect();
    assert_eq!(links, [("b.md", Some("The first")), ("c.md#x", Some("Other")), ("d.md", None)]);
}

#[test]
fn tables_have_rows_with_code() {
    let document = parse("# H\n\n| a | b |\n|---|---|\n| `x`, `y` | 1 |\n");
    let row = document.rows.last().expect("a row");
    assert_eq!((row.line, row.heading.as_str(), row.head.as_slice()), (5, "H", ["a".into(), "b".into()].as_slice()));
    assert_eq!(
        (row.cells[0].text.as_str(), row.cells[0].spans.as_slice()),
        ("x, y", ["x".into(), "y".into()].as_slice())
    );
    assert_eq!(row.cells[1].text, "1");
}

#[test]
fn blocks_have_their_info() {
    let document = parse("```sh server\nx\n```\n\n    y\n");
    let blocks: Vec<_> = document.blocks.iter().map(|block| (block.line, &*block.info, &*block.text)).collect();
    assert_eq!(blocks, [(1, "sh server", "x\n"), (5, "", "y\n")]);
}
