//! Why a measurement could not be made.

use std::process::ExitCode;

/// Why something could not be measured, as one sentence.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Failure {
    /// This machine lacks a requirement; the sentence says how to get it.
    #[error("{0}")]
    Missing(String),
    /// A step failed.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// For `map_err`: the step that failed, and the error.
    pub(crate) fn during<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Failure {
        move |error| Failure::Failed(format!("{what}: {error}"))
    }

    /// Prints it, and returns the program's exit code.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("{self}");
        match self {
            Self::Missing(_) => 2.into(),
            Self::Failed(_) => 1.into(),
        }
    }
}
