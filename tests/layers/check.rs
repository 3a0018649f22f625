//! The two rules: no circle among the modules of one folder, and each layer uses only what its row allows.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::{Crate, Target};

/// The crates of the workspace, as `use` spells them and as a row names them.
const WORKSPACE: [(&str, &str); 5] = [
    ("vpn_core", "vpn-core"),
    ("vpn_http", "vpn-http"),
    ("host", "host"),
    ("embedded", "embedded"),
    ("testkit", "testkit"),
];

/// The uses among the children of one module, each child with all modules below it, and an example of each use.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// Returns the circles of a crate, one per line with an example of every reference in it.
pub(crate) fn circles(krate: &Crate) -> Vec<String> {
    let mut folders: BTreeMap<&[String], Uses> = BTreeMap::new();
    for (from, target) in krate.references() {
        let Target::Module(to) = target else { continue };
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        // One module contains the other: parent and child.
        let (Some(user), Some(used)) = (from.get(common), to.get(common)) else { continue };
        let example = format!("{} -> {}", from.join("::"), to.join("::"));
        folders.entry(&from[..common]).or_default().entry(user.clone()).or_default().insert(used.clone(), example);
    }
    folders.values().flat_map(circles_among).collect()
}

/// A module is in a circle if it reaches itself; modules that reach each other form one circle.
fn circles_among(uses: &Uses) -> Vec<String> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        uses.keys().map(|module| (module, reachable(uses, module))).collect();
    let mut named = BTreeSet::new();
    let mut circles = Vec::new();
    for (module, reach) in &reached {
        if !reach.contains(module) || !named.insert(*module) {
            continue;
        }
        let members: Vec<_> =
            reach.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(module))).collect();
        named.extend(members.iter().copied());
        let examples = members
            .iter()
            .flat_map(|user| &uses[**user])
            .filter(|(used, _)| members.iter().any(|member| **member == *used));
        circles.push(examples.map(|(_, example)| example.as_str()).collect::<Vec<_>>().join(", "));
    }
    circles
}

fn reachable<'a>(uses: &'a Uses, from: &'a String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        next.extend(uses.get(module).into_iter().flat_map(BTreeMap::keys).filter(|used| reached.insert(*used)));
    }
    reached
}

/// Returns the differences between a crate's layers and their rows under its heading.
pub(crate) fn layer_faults(krate: &Crate, document: &str, heading: &str) -> Vec<String> {
    let rows = rows(document, heading);
    let mut uses: BTreeMap<&str, BTreeSet<String>> =
        krate.top_level().into_iter().map(|layer| (layer, BTreeSet::new())).collect();
    for (from, target) in krate.references() {
        let Some(layer) = from.first() else { continue };
        let used = match target {
            Target::Module(module) => module.into_iter().next().filter(|used| used != layer),
            Target::Crate(name) => {
                WORKSPACE.iter().find(|(spelt, _)| *spelt == name).map(|(_, name)| (*name).to_owned())
            }
        };
        uses.entry(layer).or_default().extend(used);
    }
    let mut faults = Vec::new();
    for (layer, used) in &uses {
        let Some(allowed) = rows.get(*layer) else {
            faults.push(format!("`{layer}` has no row"));
            continue;
        };
        faults.extend(
            used.difference(allowed).map(|used| format!("`{layer}` uses `{used}`, which its row does not allow")),
        );
        faults.extend(
            allowed.difference(used).map(|name| format!("`{layer}` does not use `{name}`, which its row allows")),
        );
    }
    faults.extend(
        rows.keys()
            .filter(|layer| !uses.contains_key(layer.as_str()))
            .map(|layer| format!("`{layer}` has a row but is not a module")),
    );
    faults
}

/// Returns the rows below the heading: the layers in the first cell, and what the third cell allows them.
fn rows(document: &str, heading: &str) -> BTreeMap<String, BTreeSet<String>> {
    let heading = format!("### `{heading}`");
    let section =
        document.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with('#'));
    let mut rows = BTreeMap::new();
    for line in section.filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').collect();
        let names = |cell: Option<&&str>| -> BTreeSet<String> {
            cell.unwrap_or(&"").split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        for layer in names(cells.get(1)) {
            rows.insert(layer, names(cells.get(3)));
        }
    }
    rows
}
