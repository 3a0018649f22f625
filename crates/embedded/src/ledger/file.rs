//! A ledger's file: its operations, one behind the other, each on the disk before the ledger counts it.
//!
//! The file begins with 32 bytes: `CFVPNLG1`, the network's id, the length up to which all is acknowledged, and the
//! first 8 bytes of the SHA3-256 of these three. Each operation follows as its length (4), the first 4 bytes of the
//! SHA3-256 of the hash before and the length, the operation, and the SHA3-256 of all of that with the hash before:
//! what was changed, exchanged or left out shows.
//!
//! The acknowledged length is written behind each operation, and reaches the disk with the next one at the latest. So a
//! crash can leave no more than one unfinished operation behind it, which is cut off. Damage in front of it is an error:
//! no money is dropped in silence.

use super::Hash;
use sha3::{Digest, Sha3_256};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

const MAGIC: [u8; 8] = *b"CFVPNLG1";
/// Magic, network, acknowledged length, check.
pub(super) const HEAD_LEN: usize = 32;
/// Where the acknowledged length and its check stand.
const ACKNOWLEDGED_AT: u64 = 16;
/// The length and its check in front of an operation.
const FRAME_LEN: usize = 8;
const HASH_LEN: usize = 32;
/// The longest operation; a payment with two of the SDK's usual signatures has a tenth of it.
const OPERATION_MAX: usize = 72 << 10;

/// What a ledger's file is on.
pub(super) trait Medium: Send {
    fn len(&self) -> io::Result<u64>;
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Returns when everything before is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Why a ledger's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it does not begin as a ledger's file: expected one of this version, undamaged")]
    Head,
    #[error("it is the ledger of network {got:#018x}: expected that of {expected:#018x}")]
    Net { got: u64, expected: u64 },
    #[error("it has {len} bytes, but operations up to byte {acknowledged} were acknowledged: the end is missing")]
    Short { len: u64, acknowledged: u64 },
    #[error("it is damaged at byte {at}: {what}")]
    Damaged { at: u64, what: String },
    #[error("its sums differ: {0}")]
    Sums(String),
    #[error("an earlier write has failed, and cannot be undone: {0}")]
    Undo(io::Error),
    #[error("an operation of {0} bytes is longer than the {OPERATION_MAX} that the file takes")]
    TooLong(usize),
}

/// Returns the beginning of a new file.
pub(super) fn head(net: u64) -> Vec<u8> {
    let acknowledged = HEAD_LEN as u64;
    [MAGIC.as_slice(), &net.to_le_bytes(), &seal(net, acknowledged)].concat()
}

/// The acknowledged length with its check.
fn seal(net: u64, acknowledged: u64) -> [u8; 16] {
    let hash = digest(&[&MAGIC, &net.to_le_bytes(), &acknowledged.to_le_bytes()]);
    let mut out = [0; 16];
    out[..8].copy_from_slice(&acknowledged.to_le_bytes());
    out[8..].copy_from_slice(&hash[..8]);
    out
}

fn digest(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha3_256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// A ledger's open file.
pub(super) struct Log {
    medium: Box<dyn Medium>,
    net: u64,
    len: u64,
    /// The hash of the last operation.
    last: Hash,
    /// A write has failed, and what is behind `len` has not been removed.
    has_rest: bool,
}

impl Log {
    /// Reads a file, and gives each operation to `each`, which says what is wrong with it. Cuts an unfinished operation
    /// off the end, and returns how many bytes that was.
    pub(super) fn open(
        mut medium: Box<dyn Medium>,
        net: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(Self, u64), FileError> {
        let len = medium.len()?;
        let mut reader = BufReader::with_capacity(1 << 16, At { medium: &*medium, at: 0 });
        let mut begin = [0; HEAD_LEN];
        reader.read_exact(&mut begin).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => FileError::Head,
            _ => FileError::Io(error),
        })?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| begin[at + index]));
        let (got, acknowledged) = (number(8), number(16));
        if begin[..8] != MAGIC || begin[16..] != seal(got, acknowledged) {
            return Err(FileError::Head);
        }
        if got != net {
            return Err(FileError::Net { got, expected: net });
        }
        if len < acknowledged {
            return Err(FileError::Short { len, acknowledged });
        }
        let (mut at, mut last) = (HEAD_LEN as u64, digest(&[&MAGIC, &net.to_le_bytes()]));
        let damage = loop {
            if at == len {
                break None;
            }
            match read_operation(&mut reader, &last)? {
                Ok((body, hash)) => {
                    each(&body).map_err(|what| FileError::Damaged { at, what })?;
                    (at, last) = (at + framed(body.len()) as u64, hash);
                }
                Err(what) => break Some(what),
            }
        };
        drop(reader);
        // One acknowledged operation may stand behind the acknowledged length, and one unfinished.
        let is_tail = at >= acknowledged && len - at <= framed(OPERATION_MAX) as u64;
        match damage {
            Some(what) if !is_tail => return Err(FileError::Damaged { at, what: what.to_owned() }),
            Some(_) => medium.set_len(at)?,
            None => {}
        }
        // A process that was killed may have left an operation that is not on the disk: from here on it counts.
        medium.sync()?;
        let mut log = Log { medium, net, len: at, last, has_rest: false };
        log.acknowledge();
        Ok((log, len - at))
    }

    /// Writes an operation. It is on the disk on return. After a failure it is not in the file, or, if that could not be
    /// undone, may be there at the next start.
    pub(super) fn append(&mut self, body: &[u8]) -> Result<(), FileError> {
        if self.has_rest {
            self.undo().map_err(FileError::Undo)?;
        }
        if body.len() > OPERATION_MAX {
            return Err(FileError::TooLong(body.len()));
        }
        let (frame, hash) = frame(&self.last, body);
        let bytes = [frame.as_slice(), body, &hash].concat();
        if let Err(error) = self.medium.write_at(&bytes, self.len).and_then(|()| self.medium.sync()) {
            self.has_rest = true;
            // If that fails as well, the next operation begins with it.
            let _ = self.undo();
            return Err(error.into());
        }
        (self.len, self.last) = (self.len + bytes.len() as u64, hash);
        self.acknowledge();
        Ok(())
    }

    /// Removes what a failed write has left.
    fn undo(&mut self) -> io::Result<()> {
        self.medium.set_len(self.len)?;
        self.medium.sync()?;
        self.has_rest = false;
        Ok(())
    }

    /// Notes that everything is acknowledged. A failure leaves the last note, which is true as well.
    fn acknowledge(&mut self) {
        let seal = seal(self.net, self.len);
        if let Err(error) = self.medium.write_at(&seal, ACKNOWLEDGED_AT) {
            host::log_bounded!(Warn, "the ledger of {:#018x}: its length cannot be noted: {error}", self.net);
        }
    }
}

/// The length of an operation in the file.
fn framed(len: usize) -> usize {
    FRAME_LEN + len + HASH_LEN
}

/// What stands in front of an operation and behind it.
fn frame(last: &Hash, body: &[u8]) -> ([u8; FRAME_LEN], Hash) {
    // Lossless: at most OPERATION_MAX.
    let len = (body.len() as u32).to_le_bytes();
    let mut frame = [0; FRAME_LEN];
    frame[..4].copy_from_slice(&len);
    frame[4..].copy_from_slice(&digest(&[last, &len])[..4]);
    (frame, digest(&[last, &len, body]))
}

/// Reads one operation and its hash; the inner error says what is wrong with the bytes.
fn read_operation(reader: &mut impl Read, last: &Hash) -> io::Result<Result<(Vec<u8>, Hash), &'static str>> {
    let mut found = [0; FRAME_LEN];
    if read_up_to(reader, &mut found)? < FRAME_LEN {
        return Ok(Err("an operation is cut off"));
    }
    let len = u32::from_le_bytes([found[0], found[1], found[2], found[3]]) as usize;
    if len > OPERATION_MAX || found[4..] != digest(&[last, &found[..4]])[..4] {
        return Ok(Err("the length of an operation is wrong"));
    }
    let mut bytes = vec![0; len + HASH_LEN];
    if read_up_to(reader, &mut bytes)? < bytes.len() {
        return Ok(Err("an operation is cut off"));
    }
    let hash = bytes.split_off(len);
    let (_, expected) = frame(last, &bytes);
    Ok(if hash == expected { Ok((bytes, expected)) } else { Err("the hash of an operation is wrong") })
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match reader.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Reads a medium from one place on.
struct At<'a> {
    medium: &'a dyn Medium,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.medium.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
