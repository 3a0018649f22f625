//! Logs: the `log` facade, written to stderr by env_logger unless the host program has installed its own logger.
//!
//! In systemd's journal each line has its level as a priority (sd-daemon(3)), so that `journalctl -p warning` finds it, and
//! no time, which the journal has.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{LazyLock, Once};

use env_logger::Target;
use host::pipes::without_sigpipe;
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;

/// Installs the logger once: level from `RUST_LOG`, default info. Later calls do nothing; nor does the first if the
/// program has already installed a logger.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let by_environment =
            env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).build();
        let filter = by_environment.filter();
        let mut writer = env_logger::Builder::new();
        writer.filter_level(LevelFilter::Trace).format(|to, record| match journal_priority(record.level()) {
            Some(priority) => writeln!(to, "{priority}{}: {}", record.target(), record.args()),
            None => {
                writeln!(to, "{} {:<5} {}: {}", to.timestamp_seconds(), record.level(), record.target(), record.args())
            }
        });
        writer.target(Target::Pipe(Box::new(Stderr)));
        let logger = Logger { by_environment, writer: writer.build() };
        if log::set_boxed_logger(Box::new(logger)).is_ok() {
            *FILTER.write() = Some(filter);
            log::set_max_level(filter);
        }
    });
}

/// What a line to stderr begins with where that is systemd's journal; else `None`.
pub fn journal_priority(level: Level) -> Option<&'static str> {
    static IS_JOURNAL: LazyLock<bool> = LazyLock::new(|| {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        // The variable is inherited, also by a program whose stderr has become another file.
        rustix::fs::fstat(io::stderr().as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    });
    IS_JOURNAL.then_some(match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    })
}

/// Sets the level, which overrides `RUST_LOG`.
pub fn set_level(level: LevelFilter) {
    *LEVEL.write() = Some(level);
    set_max_level(level);
}

static LEVEL: RwLock<Option<LevelFilter>> = RwLock::new(None);

/// Has the DEBUG lines whose target begins with this text written too, or none in addition. Does nothing if the program
/// has its own logger.
pub fn write_debug_of(target: Option<&'static str>) {
    *DEBUG_OF.write() = target;
    let level = LEVEL.read().or(*FILTER.read());
    if let Some(level) = level {
        set_max_level(level);
    }
}

fn set_max_level(level: LevelFilter) {
    let is_more = DEBUG_OF.read().is_some();
    log::set_max_level(if is_more { level.max(LevelFilter::Debug) } else { level });
}

static DEBUG_OF: RwLock<Option<&'static str>> = RwLock::new(None);
/// The level of `RUST_LOG`, if the logger is installed.
static FILTER: RwLock<Option<LevelFilter>> = RwLock::new(None);

/// Writes the bytes of a line of the log somewhere, as `Write::write` does.
pub type WriteLine = fn(&[u8]) -> io::Result<usize>;

/// Has lines written by this function, on the thread that logs, in place of stderr. A program that draws on its terminal
/// takes its drawing away for the line. The function must not log. Any thread.
pub fn write_lines_by(write: WriteLine) {
    *WRITE.write() = write;
}

static WRITE: RwLock<WriteLine> = RwLock::new(|bytes| io::stderr().write(bytes));

/// The process's stderr. A host whose stderr is a closed pipe must not die of a line of this library.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        without_sigpipe(|| (*WRITE.read())(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        without_sigpipe(|| io::stderr().flush())
    }
}

struct Logger {
    /// Has the levels of `RUST_LOG`, by target.
    by_environment: env_logger::Logger,
    /// Writes every record that it receives.
    writer: env_logger::Logger,
}

impl Logger {
    fn passes(&self, level: Level, or_else: impl Fn(&env_logger::Logger) -> bool) -> bool {
        match *LEVEL.read() {
            Some(chosen) => level <= chosen,
            None => or_else(&self.by_environment),
        }
    }
}

fn is_wanted(metadata: &Metadata<'_>) -> bool {
    let wanted = *DEBUG_OF.read();
    metadata.level() <= Level::Debug && wanted.is_some_and(|target| metadata.target().starts_with(target))
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_wanted(metadata) || self.passes(metadata.level(), |by_environment| by_environment.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        let passes = is_wanted(record.metadata());
        if passes || self.passes(record.level(), |by_environment| by_environment.matches(record)) {
            self.writer.log(record);
        }
    }

    fn flush(&self) {
        self.writer.flush();
    }
}
