//! A figure in a document can be taken again: the section that has it names a command and a day.

use std::collections::BTreeSet;

use crate::commands::commands;
use crate::markdown::{Block, Document};
use crate::repository::text;

/// The sections of docs/performance.md whose tables have measured figures and neither command nor day, with the reason.
const WITHOUT: [(&str, &str); 1] = [("Missed targets", "it repeats figures of the sections that it names")];

/// Units of what is measured, and units that limits have as well.
const OF_SPEED: [&str; 4] = ["Mbit/s", "Gbit/s", "s/GB", "GB/s"];
const OF_LIMITS: [&str; 6] = ["us", "ns", "ms", "MB", "KB", "%"];
/// What says how a figure is taken: a command, the tool, or the document with the set-up.
const COMMANDS: [&str; 4] = ["`cargo ", "`perf ", "iperf3", "cellframe-node.md"];

/// Sections of a document of measurements with a figure, but without a command or a day.
pub(crate) fn undated_figures(document: &Document) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, name, said) in sections(document) {
        if !has_figure(&said, &[&OF_SPEED[..], &OF_LIMITS[..]].concat()) {
            continue;
        }
        if !COMMANDS.iter().any(|command| said.contains(command)) {
            faults.push(format!("{}: \"{name}\" has figures and names no command", document.at(line)));
        }
        if !has_day(&said) && !said.contains("same machine and day") {
            faults.push(format!("{}: \"{name}\" has figures and names no day", document.at(line)));
        }
    }
    faults
}

/// Sections of any document with a measured speed, but without a day or a link to where it was measured.
pub(crate) fn undated_speeds(document: &Document) -> Vec<String> {
    let sections = sections(document).into_iter().filter(|(_, _, said)| has_figure(said, &OF_SPEED));
    let undated = sections.filter(|(_, _, said)| !has_day(said) && !said.contains("performance.md"));
    undated.map(|(line, name, _)| format!("{}: \"{name}\" has speeds and no day", document.at(line))).collect()
}

/// The sections of a document, each with its line, its heading and its text.
fn sections(document: &Document) -> Vec<(usize, String, String)> {
    let whole = text(&document.path);
    let lines: Vec<&str> = whole.lines().collect();
    let mut sections = Vec::new();
    for (number, heading) in document.headings.iter().enumerate() {
        let end = document.headings.get(number + 1).map_or(lines.len(), |next| next.line - 1);
        if !WITHOUT.iter().any(|(name, _)| *name == heading.text) {
            sections.push((heading.line, heading.text.clone(), lines[heading.line - 1..end].join("\n")));
        }
    }
    sections
}

/// Benches that no command of a document runs.
pub(crate) fn benches_without_command(document: &Document, benches: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let shown: Vec<String> = commands(document, "cargo").into_iter().map(|(_, command)| command).collect();
    for bench in benches {
        let is_shown = shown.iter().any(|command| command.contains(&format!("--bench {bench}")))
            // The benches of a crate without a name run by its package.
            || bench == "per_packet" && shown.iter().any(|command| command.starts_with("cargo bench -p vpn-core"));
        if !is_shown {
            faults.push(format!("{}: no command runs the bench {bench}", document.path.display()));
        }
    }
    faults
}

/// Rows of promises whose figure has no day.
pub(crate) fn undated_rows(document: &Document) -> Vec<String> {
    let rows = document.rows.iter().filter(|row| row.head.get(2).is_some_and(|head| head == "last figure"));
    let rows = rows.filter(|row| row.cells.get(2).is_some_and(|cell| cell.text != "last figure"));
    let undated = rows.filter(|row| {
        let figure = &row.cells[2].text;
        figure.chars().any(|letter| letter.is_ascii_digit()) && !has_day(figure)
    });
    undated.map(|row| format!("{}: \"{}\" has no day", document.at(row.line), row.cells[2].text)).collect()
}

/// Whether a text has a number with one of these units.
fn has_figure(text: &str, units: &[&str]) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).any(|pair| {
        let is_number = pair[0].trim_start_matches('(').chars().next().is_some_and(|letter| letter.is_ascii_digit());
        is_number && units.contains(&pair[1].trim_end_matches([',', '.', ';', ')', ':']))
    })
}

/// Whether a text has a day such as 2026-11-29.
fn has_day(text: &str) -> bool {
    text.as_bytes().windows(10).any(|day| {
        day.iter().enumerate().all(|(at, byte)| if at == 4 || at == 7 { *byte == b'-' } else { byte.is_ascii_digit() })
    })
}

/// Blocks of results in a document, which no test checks, have no digits that look measured: the README's demo has `...`.
pub(crate) fn measured_in_blocks(blocks: &[Block]) -> Vec<usize> {
    let measured = |block: &&Block| has_figure(&block.text, &OF_SPEED);
    blocks.iter().filter(measured).map(|block| block.line).collect()
}
