//! The file of a benchmark's results.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::failure::Failure;

/// Writes everything to `path`, or to `name`.json in cargo's target directory.
pub(crate) fn write_json(name: &str, path: Option<&Path>, results: &Value) -> Result<(), Failure> {
    let default = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(format!("{name}.json"));
    let path = path.unwrap_or(&default);
    fs::write(path, format!("{results:#}\n")).map_err(Failure::during(path.display()))?;
    eprintln!("results: {}", path.display());
    Ok(())
}
