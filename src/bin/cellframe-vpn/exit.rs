//! Exit codes, and the failure that carries one. `--help` documents the numbers: scripts may rely on them.

use std::fmt;
use std::process::ExitCode;

/// The program's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Success,
    /// The command failed while it ran.
    Failure,
    Usage,
    CannotConnect,
    NoAnswer,
    /// The server refused service, or its identity is not the expected one.
    Refused,
    /// The command lacks a privilege.
    Privilege,
    /// A result cannot be written.
    Output,
    /// The server cannot serve this client at present.
    Busy,
    /// The server speaks another protocol, or another version of it.
    Incompatible,
    /// A signal ended the demo or an attempt to connect: 128 + the signal's number, as shells do.
    Interrupted(u8),
}

impl Code {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::CannotConnect => 3,
            Self::NoAnswer => 4,
            Self::Refused => 5,
            Self::Privilege => 6,
            Self::Output => 7,
            Self::Busy => 8,
            Self::Incompatible => 9,
            Self::Interrupted(signal) => 128_u8.saturating_add(signal),
        }
    }

    /// Returns the code for a number that another process of this program reported.
    pub(crate) fn from_number(number: u64) -> Self {
        let all = [
            Self::Usage,
            Self::CannotConnect,
            Self::NoAnswer,
            Self::Refused,
            Self::Privilege,
            Self::Output,
            Self::Busy,
            Self::Incompatible,
        ];
        all.into_iter().find(|code| u64::from(code.number()) == number).unwrap_or(Self::Failure)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        code.number().into()
    }
}

/// How the hint to `doctor` begins in a message.
pub(crate) const DOCTOR: &str = "; `cellframe-vpn doctor";

/// A sentence for the user and an exit code for the script.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Adds what looks further, to a failure to reach the server `target`.
    pub(crate) fn with_doctor(mut self, target: impl fmt::Display) -> Self {
        if matches!(self.code, Code::CannotConnect | Code::NoAnswer) {
            self.message = format!("{}{DOCTOR} --connect {target}` looks further", self.message);
        }
        self
    }

    /// Makes a failure with exit code 1.
    pub(crate) fn general(message: impl Into<String>) -> Self {
        Self::new(Code::Failure, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn numbers_are_the_documented_ones() {
        let documented = [
            (Code::Success, 0),
            (Code::Failure, 1),
            (Code::Usage, 2),
            (Code::CannotConnect, 3),
            (Code::NoAnswer, 4),
            (Code::Refused, 5),
            (Code::Privilege, 6),
            (Code::Output, 7),
            (Code::Busy, 8),
            (Code::Incompatible, 9),
            (Code::Interrupted(2), 130),
            (Code::Interrupted(15), 143),
        ];
        for (code, number) in documented {
            assert_eq!(code.number(), number);
        }
    }

    #[test]
    fn a_reported_number_becomes_its_code() {
        assert_eq!(Code::from_number(6), Code::Privilege);
        assert_eq!(Code::from_number(3), Code::CannotConnect);
        assert_eq!(Code::from_number(99), Code::Failure);
    }
}
