//! The command line as people type it: `help`, and what is said of a mistake beside clap's own words.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use crate::args::Arguments;
use crate::exit::Code;
use crate::output;

/// Options that people try, and how the same is said here.
const ELSEWHERE: [(&[&str], &str); 3] = [
    (&["--port", "-p", "--listen"], "the port stands in the configuration: [server] listen_address=[0.0.0.0:8079]"),
    (&["--verbose", "-v", "--debug", "-d"], "the environment says what is logged: RUST_LOG=debug cellframe-vpn ..."),
    (&["--host", "--server", "--address", "-c"], "a server is named so: --connect HOST[:PORT]"),
];

/// Returns the words of the command line, with `help COMMAND` as `COMMAND --help`.
pub(crate) fn words() -> Vec<OsString> {
    rewritten(std::env::args_os().collect())
}

/// Does the same with these words, the program's name first.
pub(crate) fn rewritten(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_some_and(|word| word == "help") {
        words.remove(1);
        words.push("--help".into());
    }
    words
}

/// Prints clap's message and what helps. clap reports `--help` and `--version` as errors too; their exit code is success.
pub(crate) fn print(mut error: clap::Error, words: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let printed = output::require_writable().and_then(|()| error.print());
            output::wrote(printed.and_then(|()| std::io::stdout().flush()));
            output::failure().map_or(Code::Success, |failure| failure.code).into()
        }
        // It goes to stderr.
        _ => {
            if let Some(tip) = tip(&error, words) {
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            let _ = error.print();
            Code::Usage.into()
        }
    }
}

/// What helps, where clap says no more than that a word is wrong.
fn tip(error: &clap::Error, words: &[OsString]) -> Option<String> {
    if error.get(ContextKind::SuggestedSubcommand).is_some() || error.get(ContextKind::SuggestedArg).is_some() {
        return None;
    }
    let program = Arguments::command();
    let commands = |of: &Command| {
        let shown = of.get_subcommands().filter(|command| !command.is_hide_set());
        shown.map(|command| command.get_name().to_owned()).collect::<Vec<_>>().join(", ")
    };
    let command = words.get(1).and_then(|word| program.find_subcommand(word));
    let wrong = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(wrong)) => wrong.as_str(),
        _ => "",
    };
    match (error.kind(), command) {
        (ErrorKind::InvalidSubcommand, of) => Some(format!("expected one of {}", commands(of.unwrap_or(&program)))),
        (ErrorKind::UnknownArgument, Some(command)) if !wrong.starts_with('-') => {
            let has_option = |name: &str| command.get_arguments().any(|argument| argument.get_long() == Some(name));
            match () {
                () if has_option(wrong) => Some(format!("it is an option: --{wrong}")),
                () if has_option("connect") => Some(format!("a server is named so: --connect {wrong}")),
                () => None,
            }
        }
        (ErrorKind::UnknownArgument, _) => {
            let (_, tip) = ELSEWHERE.iter().find(|(options, _)| options.contains(&wrong))?;
            Some((*tip).to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_an_option_of_the_command() {
        let of = |words: &[&str]| rewritten(words.iter().map(OsString::from).collect());
        assert_eq!(of(&["x", "help"]), ["x", "--help"]);
        assert_eq!(of(&["x", "help", "wallet", "new"]), ["x", "wallet", "new", "--help"]);
        assert_eq!(of(&["x", "wallet", "help"]), ["x", "wallet", "help"]);
        assert_eq!(of(&["x"]), ["x"]);
    }
}
