//! docs/abi.md and docs/embedded-sdk.md say what the library exports: functions, codes, constants, layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::markdown::{Document, Row};
use crate::repository::{Repository, text};

/// Codes that functions return beside those of src/abi/codes.rs, by the row that has them: no error is behind these.
const NO_ERRORS: [(&str, &[i64]); 4] = [
    ("init", &[0]),
    ("start(net, host, port)", &[0, 1]),
    ("check(net, host, port, send, recv, timeout_ms)", &[0]),
    ("update(net, wallet, token, value)", &[0]),
];

/// The functions and variables of `folder` that C sees.
pub(crate) fn exports(repository: &Repository, folder: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in repository.sources(&["rs"]).filter(|path| path.starts_with(folder)) {
        for (_, after) in text(path).split("no_mangle)]").enumerate().skip(1) {
            let mut words = after.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
            let item = words.find(|word| ["fn", "static"].contains(word));
            names.extend(item.and_then(|_| words.find(|word| *word != "mut")).map(str::to_owned));
        }
    }
    assert!(names.len() > 20, "{} exports in {folder}", names.len());
    names
}

/// The functions in the tables of a document whose second column is the thread.
fn documented(document: &Document) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for row in document.rows.iter().filter(|row| row.head.get(1).is_some_and(|head| head == "thread")) {
        // The head may have what the names of all rows begin with: "part `client`, `dap_chain_net_vpn_client_`".
        let start = row.head[0].rsplit(' ').next().filter(|word| word.ends_with('_')).unwrap_or_default();
        if row.cells[0].text == row.head[0] {
            continue;
        }
        for span in &row.cells[0].spans {
            let name = span.split('(').next().unwrap_or_default();
            names.push((row.line, if name.starts_with('_') { name.to_owned() } else { format!("{start}{name}") }));
        }
    }
    names
}

/// Functions that a document lacks, or that neither exist nor are in the header, as macros are. `_end` stands for the name before with another end, `start_*`
/// for all that begin so.
pub(crate) fn function_faults(document: &Document, exports: &BTreeSet<String>, header: &str) -> Vec<String> {
    let (mut faults, mut covered) = (Vec::new(), BTreeSet::new());
    let mut last = String::new();
    for (line, name) in documented(document) {
        let is_meant = |export: &&String| match (name.strip_suffix('*'), name.starts_with('_')) {
            // A macro may stand in front of a function whose name begins with `_`.
            (Some(start), _) => export.trim_start_matches('_').starts_with(start),
            (None, false) => **export == name,
            (None, true) => export.strip_suffix(&*name).is_some_and(|start| last.starts_with(start)),
        };
        let meant: Vec<&String> = exports.iter().filter(is_meant).collect();
        let only_in_header = || {
            let shortened = last.match_indices('_').map(|(at, _)| format!("{}{name}", &last[..at]));
            shortened.chain([name.clone()]).any(|name| header.contains(&format!(" {name}(")))
        };
        if meant.is_empty() && !only_in_header() {
            faults.push(format!("{}: `{name}` is not exported", document.at(line)));
        }
        if !name.starts_with('_') {
            last = name;
        }
        covered.extend(meant);
    }
    let missing = exports.iter().filter(|export| !covered.contains(export));
    faults.extend(missing.map(|export| format!("{}: `{export}` is in no table", document.path.display())));
    faults
}

/// Differences between the codes of src/abi/codes.rs and those that docs/abi.md has for the functions that return them.
pub(crate) fn code_faults(document: &Document, codes: &str) -> Vec<String> {
    let of = codes_by_function(codes);
    let table: BTreeSet<i64> = document
        .rows
        .iter()
        .filter(|row| row.head.first().is_some_and(|head| head == "init returns"))
        .filter_map(|row| row.cells[0].text.parse().ok())
        .collect();
    let mut faults = compare_codes("init", &table, &of["server_init"]);
    for (name, function) in [
        ("start(net, host, port)", "client"),
        ("check(net, host, port, send, recv, timeout_ms)", "client"),
        ("update(net, wallet, token, value)", "wallet"),
        ("dap_chain_net_vpn_client_tun_create(address, gateway)", "tunnel"),
    ] {
        match document.rows.iter().find(|row| row.cells[0].spans.iter().any(|span| span == name)) {
            Some(row) => faults.extend(compare_codes(name, &codes_of_row(row), &of[function])),
            None => faults.push(format!("docs/abi.md: no row `{name}`")),
        }
    }
    faults
}

fn compare_codes(name: &str, documented: &BTreeSet<i64>, returned: &BTreeSet<i64>) -> Vec<String> {
    let no_errors = NO_ERRORS.iter().find(|(row, _)| *row == name).map_or(&[][..], |(_, codes)| codes);
    let returned: BTreeSet<i64> = returned.iter().chain(no_errors).copied().collect();
    if *documented == returned {
        return Vec::new();
    }
    vec![format!("docs/abi.md: `{name}` has the codes {documented:?}, src/abi/codes.rs {returned:?}")]
}

/// The numbers with which the sentences of a row's last cell begin: "0 up; 1 already started; -1 argument".
fn codes_of_row(row: &Row) -> BTreeSet<i64> {
    let said = row.cells.last().map(|cell| cell.text.clone()).unwrap_or_default();
    let said = said.split('.').next().unwrap_or_default().to_owned();
    said.split(';').filter_map(|part| part.split_whitespace().next()?.parse().ok()).collect()
}

/// The numbers that each function of codes.rs returns.
fn codes_by_function(codes: &str) -> BTreeMap<String, BTreeSet<i64>> {
    let file = syn::parse_file(codes).unwrap();
    let functions = file.items.iter().filter_map(|item| if let syn::Item::Fn(item) = item { Some(item) } else { None });
    let of = |function: &syn::ItemFn| {
        let text = quote::quote!(#function).to_string();
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut numbers = BTreeSet::new();
        for (at, word) in words.iter().enumerate() {
            if let Ok(number) = word.parse::<i64>() {
                numbers.insert(if at > 0 && words[at - 1] == "-" { -number } else { number });
            }
        }
        (function.sig.ident.to_string(), numbers)
    };
    functions.map(of).collect()
}

/// Differences between the constants of docs/abi.md and the headers.
pub(crate) fn constant_faults(document: &Document, headers: &str) -> Vec<String> {
    let mut documented: Vec<(String, String)> = Vec::new();
    let mut start = String::new();
    let mut is_hex = BTreeMap::new();
    let rows = document.rows.iter().filter(|row| row.heading == "Constants" && row.cells[0].text != "name");
    let rows: Vec<&Row> = rows.collect();
    for row in &rows {
        if let Some(name) = row.cells[0].spans.first() {
            start.clone_from(name);
        }
        let values = row.cells[1].text.trim_end_matches(',');
        if values.ends_with("(hexadecimal)") {
            is_hex.insert(start.clone(), ());
        }
        let values = values.trim_end_matches(" (hexadecimal)");
        if start.ends_with('_') {
            for pair in values.split(',') {
                let (name, value) = pair.trim().split_once(' ').unwrap_or((pair, ""));
                documented.push((format!("{start}{name}"), value.to_owned()));
            }
        } else {
            // "..._CLIENT, _DATA | 0x01, 0x02"
            let prefix = start.rsplit_once('_').map(|(prefix, _)| prefix).unwrap_or_default();
            for (name, value) in row.cells[0].spans.iter().zip(values.split(", ")) {
                let name = if name.starts_with('_') { format!("{prefix}{name}") } else { name.clone() };
                documented.push((name, value.to_owned()));
            }
        }
    }
    let mut faults = Vec::new();
    for (name, value) in &documented {
        let hex = is_hex.keys().any(|start: &String| name.starts_with(start.as_str()));
        let value = if hex { format!("0x{value}") } else { value.clone() };
        match defined(headers, name) {
            None => faults.push(format!("docs/abi.md: {name}: no header defines it")),
            Some(there) if !is_same(&there, &value) => {
                faults.push(format!("docs/abi.md: {name} is {value}, and {there} in its header"));
            }
            Some(_) => {}
        }
    }
    for start in ["VPN_PACKET_OP_CODE_", "VPN_PROBLEM_CODE_", "DAP_STREAM_CH_PKT_TYPE_NET_SRV_VPN_"] {
        let names = headers.lines().filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next());
        let missing =
            names.filter(|name| name.starts_with(start) && !documented.iter().any(|(known, _)| known == name));
        faults.extend(missing.map(|name| format!("docs/abi.md: {name} is in no row")));
    }
    faults
}

fn defined(headers: &str, name: &str) -> Option<String> {
    let line = headers.lines().find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.trim().to_owned())
}

fn is_same(there: &str, here: &str) -> bool {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let there = there.trim_end_matches("ULL");
    there == here || number(there).is_some() && number(there) == number(here)
}

/// Differences between the layouts of docs/abi.md and those that src/sdk/visible.rs asserts.
pub(crate) fn layout_faults(document: &Document, visible: &str) -> Vec<String> {
    let mut asserted = BTreeMap::new();
    for (_, after) in visible.split("    layout!(").enumerate().skip(1) {
        let inner: String =
            after.split(')').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let parts: Vec<&str> = inner.split(", ").collect();
        let [name, size, align, fields @ ..] = parts.as_slice() else { continue };
        asserted.insert((*name).to_owned(), (format!("{size}, {align}"), fields.join(", ")));
    }
    assert!(asserted.len() > 4, "{asserted:?}");
    let (mut faults, mut name) = (Vec::new(), String::new());
    let mut documented: BTreeMap<String, (String, String)> = BTreeMap::new();
    for row in document.rows.iter().filter(|row| row.heading == "Structs" && row.cells[0].text != "type") {
        if let Some(span) = row.cells[0].spans.first() {
            name = span.trim_end_matches("_t").to_owned();
            documented.insert(name.clone(), (row.cells[1].text.clone(), String::new()));
        }
        if let Some((_, fields)) = documented.get_mut(&name) {
            fields.push_str(&row.cells[2].text);
            fields.push(' ');
        }
    }
    for (name, (size, fields)) in &asserted {
        let Some((size_here, fields_here)) = documented.get(name) else {
            faults.push(format!("docs/abi.md: {name} is in no row"));
            continue;
        };
        let same_fields = fields_here.trim() == fields || (fields_here.trim().is_empty() && name == "UT_hash_handle");
        if size != size_here || !same_fields {
            faults.push(format!(
                "docs/abi.md: {name} is {size_here}: {fields_here}; src/sdk/visible.rs asserts {size}: {fields}"
            ));
        }
    }
    faults
}

/// Headers that docs/abi.md lacks, or that do not exist.
pub(crate) fn header_faults(document: &Document, repository: &Repository) -> Vec<String> {
    let there: BTreeSet<String> = repository
        .sources(&["h"])
        .filter(|path| path.parent() == Some(Path::new("include")))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let rows = document.rows.iter().filter(|row| row.head.first().is_some_and(|head| head.starts_with("header in ")));
    let here: BTreeSet<String> = rows
        .filter_map(|row| row.cells[0].spans.first().filter(|span| span.ends_with(".h") && !span.contains('/')))
        .cloned()
        .collect();
    there
        .symmetric_difference(&here)
        .map(|name| format!("docs/abi.md: the header {name} is not on both sides"))
        .collect()
}
