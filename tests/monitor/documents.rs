//! docs/monitoring.md against what a server says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use testkit::hosts::Hosts;
use testkit::netns::in_namespace;

use crate::{PROGRAM, scrape};

/// Returns the rows of the table below a heading: the only name in the first cell, the words of the second one, the names
/// in the third one.
fn documented(heading: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring.md")).unwrap();
    let table = text.split(heading).nth(1).unwrap().split("\n#").next().unwrap();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [name] = names(cells[1]).try_into().unwrap_or_else(|_| panic!("{line}"));
        (name, (cells[2].to_owned(), names(cells[3]).into_iter().collect()))
    })
    .collect()
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels() {
    in_namespace("documents::every_metric_is_documented_with_its_type_and_labels", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{}prices=1 GB for 0.5 CELL\n", testkit::tunnel::NETWORK));
        let (_server, _) = hosts.server_with("server", &["--config", &config]);
        testkit::eventually("the account book is read", || scrape().families.contains_key("cellframe_vpn_earned"));
        let said = scrape().families;
        let reasons = &said["cellframe_vpn_refusals"].samples;
        let reasons: BTreeSet<_> = reasons.iter().map(|(_, labels, _)| labels["reason"].clone()).collect();
        assert_eq!(documented("### Refusals\n").into_keys().collect::<BTreeSet<_>>(), reasons);
        let said: BTreeMap<_, _> = said
            .into_iter()
            .map(|(name, family)| {
                let labels: BTreeSet<_> = family.samples.iter().flat_map(|(_, labels, _)| labels.keys()).collect();
                // That of every histogram.
                let labels = labels.into_iter().filter(|label| *label != "le").cloned().collect();
                // What a query names: the samples of a counter and of an info have a longer name than the family.
                let name = match family.kind.as_str() {
                    "counter" => format!("{name}_total"),
                    "info" => format!("{name}_info"),
                    _ => name,
                };
                (name, (family.kind, labels))
            })
            .collect();
        assert_eq!(documented("### The metrics\n"), said);
    });
}
