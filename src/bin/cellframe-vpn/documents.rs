//! Completions for shells, and the manual pages of the commands, from the definition of the command line.
//!
//! What clap calls the text after the help becomes sections of a page: [`HEADINGS`] has the headings.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::{Arguments, CompletionsOptions, ManPagesOptions};
use crate::exit::{Code, Failure};
use crate::output;

/// Begins of lines in a help text, and the section of the page that has what follows.
const HEADINGS: &[(&str, &str)] = &[
    ("Examples:", "EXAMPLES"),
    ("Example:", "EXAMPLES"),
    ("Exit codes:", "EXIT STATUS"),
    ("Environment:", "ENVIRONMENT"),
];

const FILES: &[(&str, &str)] = &[
    ("/etc/cellframe-vpn/cellframe-vpn.cfg", "The configuration, if it exists and --config names no other file."),
    ("/var/lib/cellframe-vpn", "Root's state: identity, store, wallets, ledgers and control sockets."),
    ("~/.local/state/cellframe-vpn", "The same of other users."),
];

/// Prints the completions for a shell.
pub(crate) fn completions(options: &CompletionsOptions) {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    // Into memory first: clap_complete panics where the output cannot be written.
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end());
}

/// Writes a page for each command into a directory, which is made if it is missing.
pub(crate) fn man_pages(options: &ManPagesOptions) -> Result<(), Failure> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let directory = &options.directory;
    fs::create_dir_all(directory)
        .and_then(|()| write_pages(&command, directory))
        .map_err(|error| Failure::new(Code::Output, format!("{}: {error}", directory.display())))
}

fn write_pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let name = name_of(command);
    let mut file = BufWriter::new(File::create(directory.join(format!("{name}.1")))?);
    write_page(command, &mut file)?;
    file.flush()?;
    shown(command).try_for_each(|below| write_pages(below, directory))
}

fn write_page(command: &clap::Command, file: &mut dyn Write) -> io::Result<()> {
    let page = Man::new(command.clone())
        .title(name_of(command).to_uppercase())
        .source(concat!("cellframe-vpn ", env!("CARGO_PKG_VERSION")))
        .manual("Cellframe VPN");
    page.render_title(file)?;
    page.render_name_section(file)?;
    page.render_synopsis_section(file)?;
    page.render_description_section(file)?;
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (more, sections) = sections(&help);
    if !more.is_empty() {
        let mut roff = Roff::new();
        roff.control("PP", []);
        text(&mut roff, &more);
        roff.to_writer(file)?;
    }
    page.render_options_section(file)?;
    if shown(command).next().is_some() {
        page.render_subcommands_section(file)?;
    }
    let mut roff = Roff::new();
    for (heading, lines) in sections {
        roff.control("SH", [heading]);
        text(&mut roff, &lines);
    }
    roff.control("SH", ["FILES"]);
    for (path, what) in FILES {
        roff.control("TP", []);
        roff.text([bold(*path)]).text([roman(*what)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("cellframe-vpn(1), cellframe-vpn-server(1), cellframe-vpn-client(1), cellframe-vpn.cfg(5)")]);
    roff.to_writer(file)
}

/// Parts a help text into what stands before the first heading, and the sections.
fn sections(help: &str) -> (Vec<&str>, Vec<(&'static str, Vec<&str>)>) {
    let (mut before, mut sections) = (Vec::new(), Vec::<(_, Vec<&str>)>::new());
    let mut is_free = true;
    for line in help.lines() {
        let heading = HEADINGS.iter().find_map(|(begin, heading)| Some((*heading, line.strip_prefix(begin)?)));
        // A paragraph at the margin after a section is a paragraph of the description.
        is_free = heading.is_none() && (is_free || !line.is_empty() && !line.starts_with(' '));
        match (heading, sections.last_mut()) {
            (Some((heading, rest)), _) => {
                sections.push((heading, Some(rest.trim()).filter(|rest| !rest.is_empty()).into_iter().collect()));
            }
            (None, Some((_, lines))) if !is_free => lines.push(line),
            _ => before.push(line),
        }
    }
    (before, sections)
}

/// Adds lines. Those that are indented keep their breaks if the first one is indented; else they go on with it.
fn text(roff: &mut Roff, lines: &[&str]) {
    let is_table = lines.first().is_some_and(|line| line.starts_with(' '));
    if is_table {
        roff.control("nf", []);
    }
    let last = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    for line in &lines[..last] {
        match line.trim() {
            "" => roff.control("PP", []),
            words => roff.text([roman(words)]),
        };
    }
    if is_table {
        roff.control("fi", []);
    }
}

/// The commands below one that have a page.
fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set())
}

fn name_of(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_help_text_becomes_sections() {
        let help = "Before.\n\nExamples:\n  one\n  two\n\nAfter.\n\nExit codes: 0 good,\n  1 bad\n\nExample: three";
        let (before, sections) = sections(help);
        assert_eq!(before, ["Before.", "", "After.", ""]);
        let expected: [(&str, Vec<&str>); 3] = [
            ("EXAMPLES", vec!["  one", "  two", ""]),
            ("EXIT STATUS", vec!["0 good,", "  1 bad", ""]),
            ("EXAMPLES", vec!["three"]),
        ];
        assert_eq!(sections, expected);
    }

    #[test]
    fn each_command_has_a_page_with_its_options() {
        let mut command = Arguments::command().disable_help_subcommand(true);
        command.build();
        let mut pages = 0;
        let mut commands = vec![&command];
        while let Some(command) = commands.pop() {
            let mut page = Vec::new();
            write_page(command, &mut page).unwrap();
            let page = String::from_utf8(page).unwrap();
            for argument in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(page.contains(&argument.replace('-', "\\-")), "{}: --{argument}", name_of(command));
            }
            // What no section took would stand in clap_mangen's "EXTRA".
            assert!(
                page.contains(".SH EXAMPLES")
                    || !command.get_after_help().is_some_and(|help| help.to_string().contains("Example"))
            );
            pages += 1;
            commands.extend(shown(command));
        }
        assert!(pages > 10, "{pages} pages");
    }
}
