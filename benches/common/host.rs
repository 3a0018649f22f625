//! A host: a network namespace that a thread of this process holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use host::lab::Namespace;

use super::failure::Failure;
use super::running::{Prepared, Running};

/// One host.
pub(crate) struct Host {
    name: &'static str,
    directory: PathBuf,
    pub(crate) namespace: Namespace,
}

impl Host {
    /// Creates a host, which ends with its thread and the programs on it. `directory` is for the files of its programs.
    pub(crate) fn new(name: &'static str, directory: &Path) -> Result<Host, Failure> {
        let namespace = Namespace::new().map_err(Failure::during("a network namespace cannot be made"))?;
        Ok(Host { name, directory: directory.to_owned(), namespace })
    }

    /// Runs a job on this host. A socket that the job opens stays in this host's network on any thread.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.namespace.run(job)
    }

    /// Starts a program on this host.
    pub(crate) fn start(&self, command: &Command) -> Result<Running, Failure> {
        // On the thread that holds the namespace: the child inherits the namespace from it, and ends with it.
        let prepared = Prepared::new(command, &self.directory, self.name)?;
        self.run(move || prepared.start())
    }
}
