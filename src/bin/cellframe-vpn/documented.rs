//! Tests the documents against this program's command line and its keys; tests/documents tests the rest.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};

use crate::args::Arguments;
use crate::settings::KEYS;
use crate::usage::rewritten;

#[path = "../../../tests/documents/markdown.rs"]
#[allow(dead_code)]
mod markdown;

use markdown::Document;

/// Documents in which every option in code is one of this program's.
const OF_THE_PROGRAM: [&str; 3] = ["docs/config.md", "docs/embedded-sdk.md", "docs/operate.md"];
/// Sections of which every key in any document is ours. The others are also a node's.
const OUR_SECTIONS: [&str; 2] = ["srv_vpn", "vpn_client"];
/// Keys that have no effect here: a node's operators know them.
const OF_A_NODE: [(&str, &str); 1] = [("srv_vpn", "wallet_addr")];

fn document(path: &str) -> Document {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Document::parse(
        Path::new(path),
        &fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}")),
    )
}

/// The documents of the root and of docs/.
fn documents() -> Vec<Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = Vec::new();
    for folder in ["", "docs"] {
        let entries = fs::read_dir(root.join(folder)).expect("a folder of documents");
        let names = entries.map(|entry| Path::new(folder).join(entry.expect("an entry").file_name()));
        paths.extend(names.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    assert!(paths.len() > 12, "{paths:?}");
    paths.iter().map(|path| document(path.to_str().expect("UTF-8"))).collect()
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The program's words of a line of shell, with something for each placeholder; `None` if the line runs another program.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.split([';', '|', '>', '&']).next()?.trim();
    let mut words = line.split_whitespace().skip_while(|word| *word == "sudo" || word.contains('='));
    if words.next()? != "cellframe-vpn" {
        return None;
    }
    let zeros = "00".repeat(32);
    let fill = |word: &str| {
        let word = word.trim_matches(['\'', '"']);
        match word {
            _ if word == "$PIN" || word.starts_with("sha256:") && word.ends_with("...") => format!("sha256:{zeros}"),
            _ if word.starts_with("0x") && word.ends_with("...") || word.starts_with('$') => format!("0x{zeros}"),
            _ => word.to_owned(),
        }
    };
    Some(words.take_while(|word| !word.starts_with('#')).map(fill).collect())
}

/// Why the program does not take this command. In a sentence, a command may lack its arguments.
fn refusal(words: &[String], is_sentence: bool) -> Option<String> {
    let is_placeholder = |word: &String| word.len() > 1 && word.chars().all(|letter| letter.is_ascii_uppercase());
    if words.iter().find(|word| *word != "help").is_none_or(is_placeholder) {
        return None;
    }
    let words = ["cellframe-vpn".to_owned()].iter().chain(words).map(OsString::from).collect::<Vec<_>>();
    let error = Arguments::try_parse_from(rewritten(words)).err()?;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        ErrorKind::InvalidValue if is_sentence && error.to_string().contains("none was supplied") => None,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if is_sentence =>
        {
            None
        }
        _ => Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

/// The commands of this program that it does not take, and how many there are.
fn command_faults(documents: &[Document]) -> (Vec<String>, usize) {
    let (mut faults, mut found) = (Vec::new(), 0);
    for document in documents {
        let blocks = document.blocks.iter().flat_map(|block| {
            // A line that ends with a backslash goes on.
            let text = block.text.replace("\\\n", " ");
            text.lines().map(|line| (block.line, line.to_owned(), false)).collect::<Vec<_>>()
        });
        let spans = document.spans.iter().map(|(line, span)| (*line, span.clone(), true));
        for (line, command, is_sentence) in blocks.chain(spans) {
            let Some(words) = words(&command) else { continue };
            found += 1;
            faults.extend(refusal(&words, is_sentence).map(|why| format!("{}: `{command}`: {why}", document.at(line))));
        }
    }
    (faults, found)
}

fn has_option(command: &Command, name: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(name))
        || command.get_subcommands().any(|command| has_option(command, name))
}

/// Options in code that no command of this program has.
fn option_faults(document: &Document) -> Vec<String> {
    let mut command = Arguments::command();
    command.build();
    let options = document.spans.iter().filter_map(|(line, span)| {
        let name = span.strip_prefix("--")?;
        Some((*line, name.split([' ', '=']).next()?))
    });
    let unknown = options.filter(|(_, name)| !name.is_empty() && !has_option(&command, name));
    unknown.map(|(line, name)| format!("{}: no command has --{name}", document.at(line))).collect()
}

fn is_key(section: &str, key: &str) -> bool {
    KEYS.iter().any(|(name, keys)| *name == section && keys.contains(&key))
}

/// Keys in code, such as `[srv_vpn] nat=on`, and in blocks of configuration, that the program does not know.
fn key_faults(document: &Document) -> (Vec<String>, usize) {
    let mut named: Vec<(usize, String, String)> = Vec::new();
    for (line, span) in &document.spans {
        if let Some((section, rest)) = span.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            let key = rest.split([' ', '=']).next().unwrap_or_default();
            named.push((*line, section.to_owned(), key.to_owned()));
        }
    }
    for block in &document.blocks {
        let mut section = String::new();
        for line in block.text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                named.push((block.line, section.clone(), key.trim().to_owned()));
            }
        }
    }
    named.retain(|(_, section, key)| {
        let is_name = key.chars().all(|letter| letter.is_ascii_lowercase() || "_-".contains(letter));
        is_name && !key.is_empty() && OUR_SECTIONS.contains(&&**section)
    });
    let unknown = named.iter().filter(|(_, section, key)| !is_key(section, key));
    let faults = unknown.map(|(line, section, key)| format!("{}: no key [{section}] {key}", document.at(*line)));
    (faults.collect(), named.len())
}

/// Keys that have no row in docs/config.md.
fn missing_keys(config: &Document) -> Vec<String> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for row in config.rows.iter().filter(|row| row.head.first().is_some_and(|head| head.ends_with("key"))) {
        let Some(span) = row.cells[0].spans.first() else { continue };
        match span.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((section, key)) => rows.push((section.to_owned(), key.to_owned())),
            None => {
                let section = row.heading.split(['[', ']']).nth(1).unwrap_or_default();
                rows.push((section.to_owned(), span.clone()));
            }
        }
    }
    let has_row = |section: &str, key: &str| rows.iter().any(|(known, row)| known == section && row == key);
    let keys = KEYS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| (*section, *key)));
    let missing = keys.filter(|(section, key)| !has_row(section, key) && !OF_A_NODE.contains(&(section, key)));
    missing.map(|(section, key)| format!("[{section}] {key} has no row in docs/config.md")).collect()
}

#[test]
fn commands_in_documents_are_taken() {
    let (faults, found) = command_faults(&documents());
    none(&faults);
    assert!(found > 30, "{found} commands");
}

#[test]
fn options_in_documents_exist() {
    for path in OF_THE_PROGRAM {
        none(&option_faults(&document(path)));
    }
}

#[test]
fn keys_in_documents_exist_and_all_are_documented() {
    let mut found = 0;
    for document in documents() {
        let (faults, keys) = key_faults(&document);
        none(&faults);
        found += keys;
    }
    assert!(found > 50, "{found} keys");
    none(&missing_keys(&document("docs/config.md")));
}

/// Each check finds a fault that is planted.
#[test]
fn planted_faults_are_found() {
    let of = |text: &str| Document::parse(Path::new("README.md"), text);
    let commands = |text: &str| command_faults(&[of(text)]).0.len();
    let good = "`cellframe-vpn check`, `cellframe-vpn COMMAND --help`\n\n    sudo cellframe-vpn client --connect HOST --pin \
                sha256:... # x\n    A=1 cellframe-vpn wallet fund 0x8D8F... 10\n    cellframe-vpn stat --json | jq .\n";
    assert_eq!(commands(good), 0);
    assert_eq!(commands("`cellframe-vpn checks` and `cellframe-vpn stat --jsons`"), 2);
    assert_eq!(commands("    cellframe-vpn wallet fund 0x8D8F...\n\n    cellframe-vpn check HOST --timeout no\n"), 2);
    assert_eq!(option_faults(&of("`--pin`, `--kill-switch`, `--kill`")).len(), 1);
    let keys = |text: &str| key_faults(&of(text)).0.len();
    assert_eq!(
        keys("`[srv_vpn] nat=on`, `[vpn_client] mtu`, `[server] other`\n\n    [srv_vpn]\n    # x=1\n    mtu=1\n"),
        0
    );
    assert_eq!(keys("`[srv_vpn] nats=on`, `[vpn_client] mtus`\n\n    [srv_vpn]\n    mtus=1\n"), 3);
    let config =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md")).expect("the document");
    assert_eq!(missing_keys(&of(&config.replace("| `nat` ! |", "| `nats` ! |"))).len(), 1);
}
