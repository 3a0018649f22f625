//! The node's durable key-value store, the SDK's global database, in `<state_dir>/store.redb`.
//!
//! The file is opened on first use, and made as a draft that gets its name when it is whole. A write has reached the disk when it returns, which costs an fsync: callers on a
//! worker thread should write rarely. Only one process can use the file: it is locked while open.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::config;
use super::state::{self, StateDir, StateError};

/// Most bytes of a group, and of a key.
pub const NAME_MAX: usize = 255;
/// Most bytes of a value.
pub const VALUE_MAX: usize = 1 << 20;
/// The store holds settings and remaining limits; redb's own default is 1 GiB.
const CACHE_SIZE: usize = 4 << 20;

/// (group, key) -> (nanoseconds since 1970, pinned, value)
const TABLE: TableDefinition<'_, (&str, &str), (u64, bool, &[u8])> = TableDefinition::new("global_db");

/// A value with its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The value.
    pub value: Vec<u8>,
    /// Whether it was set as pinned.
    pub is_pinned: bool,
    /// When it was set: nanoseconds since 1970.
    pub timestamp: u64,
}

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has opened the file.
    #[error(
        "the store {} is in use by another process: stop that process, or give each its own [general] state_dir",
        .0.display()
    )]
    Locked(PathBuf),
    /// The file cannot be opened or created.
    #[error("cannot open the store {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The state directory, or the file in it, cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A group or key that is empty or longer than [`NAME_MAX`].
    #[error("expected a group and a key of 1 to {NAME_MAX} bytes, not {0}")]
    NameLength(usize),
    /// A value larger than [`VALUE_MAX`].
    #[error("expected a value of at most {VALUE_MAX} bytes, not {0}")]
    ValueLength(usize),
    /// Reading or writing the open file failed.
    #[error("the store failed: {0}")]
    Database(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// The value, or None if it does not exist.
pub fn get(group: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(get_record(group, key)?.map(|record| record.value))
}

/// The value with its metadata, or None if it does not exist.
pub fn get_record(group: &str, key: &str) -> Result<Option<Record>, StoreError> {
    with_open(|store| store.get(group, key))
}

/// Sets a value, not pinned. It is on the disk on return.
pub fn set(group: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
    set_pinned(group, key, value, false)
}

/// Sets a value, pinned or not. It is on the disk on return.
pub fn set_pinned(group: &str, key: &str, value: &[u8], is_pinned: bool) -> Result<(), StoreError> {
    if LOSES_WRITES.load(Ordering::Relaxed) {
        return Ok(());
    }
    with_open(|store| store.set(group, key, value, is_pinned))
}

/// Sets a value, not pinned, unless one exists, which is then returned. The new value is on the disk on return.
pub fn set_if_absent(group: &str, key: &str, value: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    with_open(|store| store.set_if_absent(group, key, value))
}

/// Removes a value; false if it does not exist.
pub fn delete(group: &str, key: &str) -> Result<bool, StoreError> {
    with_open(|store| store.delete(group, key))
}

/// All keys of a group with their values, sorted by key.
pub fn list(group: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    with_open(|store| store.list(group))
}

/// Opens the file in a configuration's state directory, makes it if it is missing, and closes it: for a caller that
/// wants to know early whether it can.
pub fn probe(config: &config::Config) -> Result<(), StoreError> {
    Store::open(state::open(config)?).map(drop)
}

/// Whether writes are lost.
static LOSES_WRITES: AtomicBool = AtomicBool::new(false);

/// Sets whether writes are reported as made and do not happen, for a test that plays the kill of this process: what comes
/// after the call is lost, and so is all of it until the next start.
pub fn lose_writes(loses: bool) {
    LOSES_WRITES.store(loses, Ordering::Relaxed);
}

/// Waits for running calls and closes the file; the next call opens it again.
pub fn close() {
    *OPEN.write() = None;
}

/// A call holds the lock, so that the file is closed, and its own lock released, before it is opened again.
static OPEN: RwLock<Option<Store>> = RwLock::new(None);

/// Calls `work` with the store in the current configuration's state directory.
fn with_open<T>(work: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let config = config::current();
    let is_current =
        |store: &&Store| store.directory.path() == config.state_path() && !store.has_failed.load(Ordering::Relaxed);
    loop {
        if let Some(store) = OPEN.read().as_ref().filter(is_current) {
            return work(store).inspect_err(|error| {
                // redb refuses everything after a failed write. The next call opens the file anew, from the last commit.
                if matches!(error, StoreError::Database(_)) {
                    store.has_failed.store(true, Ordering::Relaxed);
                }
            });
        }
        let mut open = OPEN.write();
        if open.as_ref().filter(is_current).is_none() {
            *open = None;
            *open = Some(Store::open(state::open(&config)?)?);
        }
    }
}

struct Store {
    directory: Arc<StateDir>,
    database: Database,
    has_failed: AtomicBool,
}

const FILE: &str = "store.redb";
/// The first bytes of a store, which redb writes last.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

impl Store {
    fn open(directory: Arc<StateDir>) -> Result<Self, StoreError> {
        let path = directory.path_of(FILE);
        let failed = |error: DatabaseError| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                StoreError::Locked(path.clone())
            }
            error => StoreError::Open { path: path.clone(), reason: error.to_string() },
        };
        if is_unfinished(&directory)? {
            log::warn!("{}: its creation was interrupted, and it holds nothing; it is made anew", path.display());
            directory.remove(FILE)?;
        }
        let file = match directory.open_file(FILE)? {
            Some((file, _)) => file,
            None => {
                let made = directory.create(FILE, |file| open_database(file).map(drop).map_err(failed));
                match made {
                    // Another process has just made it.
                    Err(StoreError::State(error)) if error.is_exists() => {}
                    made => made?,
                }
                let opened = directory.open_file(FILE)?;
                let gone = || StoreError::Open { path: path.clone(), reason: "it was removed meanwhile".into() };
                opened.ok_or_else(gone)?.0
            }
        };
        let database = open_database(file).map_err(failed)?;
        Ok(Self { directory, database, has_failed: AtomicBool::new(false) })
    }

    fn get(&self, group: &str, key: &str) -> Result<Option<Record>, StoreError> {
        check_names(group, key)?;
        let table = match self.database.begin_read()?.open_table(TABLE) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(table.get((group, key))?.map(|entry| {
            let (timestamp, is_pinned, value) = entry.value();
            Record { value: value.to_vec(), is_pinned, timestamp }
        }))
    }

    fn set(&self, group: &str, key: &str, value: &[u8], is_pinned: bool) -> Result<(), StoreError> {
        check_names(group, key)?;
        if value.len() > VALUE_MAX {
            return Err(StoreError::ValueLength(value.len()));
        }
        let transaction = self.database.begin_write()?;
        transaction.open_table(TABLE)?.insert((group, key), (now(), is_pinned, value))?;
        Ok(transaction.commit()?)
    }

    /// One transaction, so that exactly one of several callers sets the value.
    fn set_if_absent(&self, group: &str, key: &str, value: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        check_names(group, key)?;
        if value.len() > VALUE_MAX {
            return Err(StoreError::ValueLength(value.len()));
        }
        let transaction = self.database.begin_write()?;
        let existing = {
            let mut table = transaction.open_table(TABLE)?;
            let existing = table.get((group, key))?.map(|entry| entry.value().2.to_vec());
            if existing.is_none() {
                table.insert((group, key), (now(), false, value))?;
            }
            existing
        };
        match existing {
            Some(existing) => transaction.abort().map(|()| Some(existing)).map_err(Into::into),
            None => Ok(transaction.commit().map(|()| None)?),
        }
    }

    fn delete(&self, group: &str, key: &str) -> Result<bool, StoreError> {
        check_names(group, key)?;
        let transaction = self.database.begin_write()?;
        let existed = transaction.open_table(TABLE)?.remove((group, key))?.is_some();
        transaction.commit()?;
        Ok(existed)
    }

    fn list(&self, group: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        check_names(group, "-")?;
        let table = match self.database.begin_read()?.open_table(TABLE) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut values = Vec::new();
        for entry in table.range((group, "")..)? {
            let (name, value) = entry?;
            let (of, key) = name.value();
            if of != group {
                break;
            }
            values.push((key.to_owned(), value.value().2.to_vec()));
        }
        Ok(values)
    }
}

/// Opens the store in a file, or makes one in an empty file. The whole file is checked, which is quick at its size: redb
/// may panic on a damaged file that was opened unchecked.
fn open_database(file: File) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_SIZE).set_check_integrity_on_open(true);
    builder.create_with_backend(FileBackend::new(file)?)
}

/// Whether the file is what an earlier version left when it could not finish it, for want of space or because it was
/// killed: the file begins with zeros in place of the magic number, or is empty. A process that still writes it has it
/// locked.
fn is_unfinished(directory: &StateDir) -> Result<bool, StoreError> {
    let Some((mut file, _)) = directory.open_file(FILE)? else { return Ok(false) };
    let path = directory.path_of(FILE);
    if file.try_lock().is_err() {
        return Err(StoreError::Locked(path));
    }
    let mut begin = Vec::new();
    let read = file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut begin);
    read.map_err(|source| StateError::File { path, source })?;
    Ok(begin.iter().all(|byte| *byte == 0))
}

fn check_names(group: &str, key: &str) -> Result<(), StoreError> {
    match [group, key].iter().find(|name| name.is_empty() || name.len() > NAME_MAX) {
        Some(name) => Err(StoreError::NameLength(name.len())),
        None => Ok(()),
    }
}

fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_1970.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = reopen(directory.path()).unwrap();
        (directory, store)
    }

    fn reopen(directory: &Path) -> Result<Store, StoreError> {
        let text = format!("[general]\nstate_dir={}", directory.display());
        Store::open(state::open(&config::Config::parse(&text, "test.cfg").0)?)
    }

    #[test]
    fn values_come_back_also_after_reopening() {
        let (directory, store) = store();
        assert_eq!(store.get("g", "k").unwrap(), None);
        assert_eq!(store.list("g").unwrap(), []);
        assert!(!store.delete("g", "k").unwrap());
        store.set("g", "k", b"one", true).unwrap();
        store.set("g", "empty", b"", false).unwrap();
        store.set("g2", "k", b"other", false).unwrap();
        let record = store.get("g", "k").unwrap().unwrap();
        assert_eq!((record.value.as_slice(), record.is_pinned), (&b"one"[..], true));
        assert!(record.timestamp > 1_700_000_000_000_000_000);
        let path = store.directory.path_of(FILE);
        drop(store);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let store = reopen(directory.path()).unwrap();
        assert_eq!(store.get("g", "k").unwrap(), Some(record));
        let listed = store.list("g").unwrap();
        assert_eq!(listed, [("empty".to_owned(), vec![]), ("k".to_owned(), b"one".to_vec())]);
        assert!(store.delete("g", "k").unwrap());
        assert_eq!(store.get("g", "k").unwrap(), None);
        assert_eq!(store.get("g2", "k").unwrap().unwrap().value, b"other");
    }

    #[test]
    fn of_several_that_set_an_absent_value_one_succeeds() {
        let (_directory, store) = store();
        let set = || {
            std::thread::scope(|scope| {
                let setters = [1, 2, 3, 4].map(|n| {
                    (
                        n,
                        scope.spawn({
                            let store = &store;
                            move || store.set_if_absent("g", "k", &[n; 32])
                        }),
                    )
                });
                setters.map(|(n, setter)| (n, setter.join().unwrap().unwrap()))
            })
        };
        let kept = |results: [(u8, Option<Vec<u8>>); 4]| {
            let value = store.get("g", "k").unwrap().unwrap().value;
            let winners = results.iter().filter(|(n, before)| before.is_none() && value == [*n; 32]).count();
            let losers = results.iter().filter(|(_, before)| before.as_deref() == Some(&value)).count();
            (winners, losers)
        };
        assert_eq!(kept(set()), (1, 3));
        assert_eq!(kept(set()), (0, 4));
    }

    #[test]
    fn a_second_opening_names_the_file_and_the_setting() {
        let (directory, _store) = store();
        let path = directory.path().join("store.redb");
        let Err(error) = reopen(directory.path()) else { panic!("opened twice") };
        assert!(matches!(error, StoreError::Locked(_)));
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("[general] state_dir"), "{text}");
    }

    #[test]
    fn a_file_that_is_not_a_store_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        fs::write(&path, b"something else, longer than nothing").unwrap();
        assert!(matches!(reopen(directory.path()), Err(StoreError::Open { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"something else, longer than nothing");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_panic() {
        let (directory, store) = store();
        (0..50).for_each(|n| store.set("g", &n.to_string(), &[n; 1000], false).unwrap());
        let path = store.directory.path_of(FILE);
        drop(store);
        let intact = fs::read(&path).unwrap();
        for at in (0..intact.len()).step_by(intact.len() / 40) {
            let mut damaged = intact.clone();
            damaged[at..intact.len().min(at + 64)].fill(0xa5);
            fs::write(&path, &damaged).unwrap();
            if let Ok(store) = reopen(directory.path()) {
                store.list("g").unwrap();
            }
            fs::write(&path, &damaged[..at]).unwrap();
            if let Ok(store) = reopen(directory.path()) {
                store.list("g").unwrap();
            }
        }
    }

    #[test]
    fn names_and_values_have_bounds() {
        let (_directory, store) = store();
        let long = "n".repeat(NAME_MAX + 1);
        for (group, key) in [("", "k"), ("g", ""), (long.as_str(), "k"), ("g", long.as_str())] {
            assert!(matches!(store.get(group, key), Err(StoreError::NameLength(_))));
            assert!(matches!(store.set(group, key, b"", false), Err(StoreError::NameLength(_))));
            assert!(matches!(store.delete(group, key), Err(StoreError::NameLength(_))));
        }
        assert!(matches!(store.set("g", "k", &vec![0; VALUE_MAX + 1], false), Err(StoreError::ValueLength(_))));
        store.set(&long[1..], &long[1..], &vec![7; VALUE_MAX], false).unwrap();
        assert_eq!(store.get(&long[1..], &long[1..]).unwrap().unwrap().value.len(), VALUE_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_value_comes_back(group in ".{1,20}", key in ".{1,20}", value: Vec<u8>) {
            let (_directory, store) = store();
            store.set(&group, &key, &value, false).unwrap();
            prop_assert_eq!(&store.get(&group, &key).unwrap().unwrap().value, &value);
            prop_assert_eq!(store.list(&group).unwrap(), [(key, value)]);
        }
    }
}
