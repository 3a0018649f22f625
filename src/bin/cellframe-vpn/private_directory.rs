//! Directories for temporary files that nobody else may see.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Creates a directory of mode 0700, whose name begins with `prefix`, among the temporary files. The caller removes it.
pub(crate) fn create(prefix: &str) -> io::Result<PathBuf> {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    let path = std::env::temp_dir().join(format!("{prefix}{}-{nanoseconds:09}", std::process::id()));
    // Not recursive: it must fail on an existing directory, which another process owns.
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}
