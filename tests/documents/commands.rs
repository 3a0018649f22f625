//! The commands of cargo in documents name packages, benches, tests and examples that exist.
//!
//! Those of the program are checked in the program (src/bin/cellframe-vpn/documented.rs), which has their definition.

use std::collections::BTreeSet;

use crate::markdown::Document;
use crate::repository::{Repository, text};

/// What cargo knows by name, by the option that takes it.
pub(crate) struct Targets(Vec<(&'static [&'static str], BTreeSet<String>)>);

impl Targets {
    pub(crate) fn read(repository: &Repository) -> Targets {
        let (mut packages, mut benches, mut tests, mut examples) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for path in &repository.files {
            let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
            let below = if parts.first() == Some(&"crates") { parts.get(2..).unwrap_or_default() } else { &parts };
            match below {
                ["Cargo.toml"] => packages.insert(package(&text(path))),
                ["benches", name] if name.ends_with(".rs") => benches.insert(stem(name)),
                ["benches", name, "main.rs"] => benches.insert((*name).to_owned()),
                ["tests", name] if name.ends_with(".rs") => tests.insert(stem(name)),
                ["tests", name, "main.rs"] => tests.insert((*name).to_owned()),
                ["examples", name] if name.ends_with(".rs") => examples.insert(stem(name)),
                _ => false,
            };
        }
        Targets(vec![
            (&["-p", "--package"], packages),
            (&["--bench"], benches),
            (&["--test"], tests),
            (&["--example"], examples),
        ])
    }

    /// The benches.
    pub(crate) fn benches(&self) -> &BTreeSet<String> {
        &self.0[1].1
    }

    /// What a command of cargo names and cargo does not know.
    fn unknown(&self, command: &str) -> Option<String> {
        // What stands behind `--` is for the program.
        let words: Vec<&str> = command.split_whitespace().take_while(|word| *word != "--").collect();
        for pair in words.windows(2) {
            let known = self.0.iter().find(|(options, _)| options.contains(&pair[0])).map(|(_, known)| known);
            if let Some(known) = known
                && !known.contains(pair[1])
            {
                return Some(format!("`{command}`: cargo knows no {} {}", pair[0], pair[1]));
            }
        }
        None
    }
}

fn stem(file: &str) -> String {
    file.trim_end_matches(".rs").to_owned()
}

fn package(manifest: &str) -> String {
    let (_, package) = manifest.split_once("[package]").unwrap_or_default();
    let name = package.lines().find_map(|line| line.strip_prefix("name = \""));
    name.unwrap_or_default().trim_end_matches('"').to_owned()
}

/// The commands of a document that begin with this word, in code and in blocks, with their lines.
pub(crate) fn commands(document: &Document, program: &str) -> Vec<(usize, String)> {
    let blocks = document.blocks.iter().flat_map(|block| {
        let first = block.line + usize::from(!block.info.is_empty());
        block.text.lines().enumerate().map(move |(number, line)| (first + number, line.to_owned()))
    });
    let spans = document.spans.iter().map(|(line, span)| (*line, span.clone()));
    blocks.chain(spans).filter(|(_, command)| has_program(command, program)).collect()
}

/// Whether the first word that sets no variable is the program.
fn has_program(command: &str, program: &str) -> bool {
    command.split_whitespace().find(|word| !word.contains('=')) == Some(program)
}

/// The faults of all commands of cargo.
pub(crate) fn unknown_targets(documents: &[Document], targets: &Targets) -> Vec<String> {
    let mut faults = Vec::new();
    for document in documents {
        for (line, command) in commands(document, "cargo") {
            faults.extend(targets.unknown(&command).map(|fault| format!("{}: {fault}", document.at(line))));
        }
    }
    faults
}
