//! A disk that fails and loses power: what is not synced is there in part, or not at all.

use crate::ledger::file::Medium;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// A file on the disk; a clone is the same file.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    /// What is on the disk for certain.
    synced: Vec<u8>,
    /// What the process sees.
    seen: Vec<u8>,
    unsynced: Vec<Change>,
    /// Calls until one fails, and how many fail then.
    fails_in: Option<(usize, usize)>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

/// What a crash does with a change that is not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Lost,
    Whole,
    /// The first bytes are there, a part of the file is longer, and zeros follow.
    Torn(usize, usize),
}

fn make(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, bytes) => {
            let at = usize::try_from(*at).unwrap();
            content.resize(content.len().max(at + bytes.len()), 0);
            content[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Change::Len(len) => content.resize(usize::try_from(*len).unwrap(), 0),
    }
}

impl Disk {
    pub(super) fn holding(bytes: &[u8]) -> Disk {
        let content = Content { synced: bytes.to_vec(), seen: bytes.to_vec(), ..Content::default() };
        Disk(Arc::new(Mutex::new(content)))
    }

    /// What the process sees.
    pub(super) fn seen(&self) -> Vec<u8> {
        self.0.lock().seen.clone()
    }

    /// Lets the calls after `calls` more fail, `times` of them.
    pub(super) fn fail_in(&self, calls: usize, times: usize) {
        self.0.lock().fails_in = Some((calls, times));
    }

    /// What is on the disk after a power failure.
    pub(super) fn after_crash(&self, mut fate: impl FnMut() -> Fate) -> Disk {
        let content = self.0.lock();
        let mut bytes = content.synced.clone();
        for change in &content.unsynced {
            match (fate(), change) {
                (Fate::Lost, _) => {}
                // The head is within one sector, which is written whole or not at all.
                (Fate::Torn(whole, zeros), Change::Write(at, data)) if *at >= 32 => {
                    let whole = whole % (data.len() + 1);
                    let zeros = zeros % (data.len() - whole + 1);
                    make(&mut bytes, &Change::Write(*at, [&data[..whole], &vec![0; zeros]].concat()));
                }
                (_, change) => make(&mut bytes, change),
            }
        }
        Disk::holding(&bytes)
    }
}

impl Content {
    fn call(&mut self) -> io::Result<()> {
        match &mut self.fails_in {
            Some((0, 0)) | None => Ok(()),
            Some((0, times)) => {
                *times -= 1;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            Some((calls, _)) => {
                *calls -= 1;
                Ok(())
            }
        }
    }

    fn change(&mut self, change: Change) {
        make(&mut self.seen, &change);
        self.unsynced.push(change);
    }
}

impl Medium for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let content = self.0.lock();
        let rest = content.seen.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        // Short reads are allowed.
        let len = rest.len().min(buffer.len()).min(1000);
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    /// A failed write has written a part; one within the head nothing.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut content = self.0.lock();
        let called = content.call();
        let len = match called {
            Ok(()) => bytes.len(),
            Err(_) if at < 32 => 0,
            Err(_) => bytes.len() / 2,
        };
        content.change(Change::Write(at, bytes[..len].to_vec()));
        called
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut content = self.0.lock();
        content.call()?;
        content.change(Change::Len(len));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut content = self.0.lock();
        content.call()?;
        content.synced = content.seen.clone();
        content.unsynced.clear();
        Ok(())
    }
}
