//! Generates the header of the seam's C half from `src/sdk/raw.rs`, so that the contract is written once.
//!
//! Names in C: a struct or type `SessionStats` becomes `vpn_glue_session_stats_t`, a constant `NO_WORKER` becomes
//! `VPN_GLUE_NO_WORKER`. A type of the SDK `dap_stream_ch_t` becomes `struct dap_stream_ch`, which any C file can name
//! without the SDK's header. Functions keep their names. `#[cfg]` has no effect: C defines all functions.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::contract;

const BANNER: &str =
    "/* The C half of the seam to the SDK, as the Rust half declares it. build.rs generates it from src/sdk/raw.rs. */";

/// Returns the header that `raw` describes, or why it cannot be generated.
pub(crate) fn header(raw: &Path) -> Result<String, String> {
    let source = fs::read_to_string(raw).map_err(|error| format!("{}: {error}", raw.display()))?;
    let bindings = cbindgen::Builder::new()
        .with_config(config(&source))
        .with_src(raw)
        .generate()
        .map_err(|error| format!("cbindgen on {}: {error}", raw.display()))?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    let header = String::from_utf8(text).map_err(|error| error.to_string())?;
    contract::check(&source, &header)?;
    Ok(header)
}

fn config(source: &str) -> cbindgen::Config {
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        style: cbindgen::Style::Type,
        header: Some(BANNER.into()),
        pragma_once: true,
        no_includes: true,
        usize_is_size_t: true,
        documentation_style: cbindgen::DocumentationStyle::C,
        line_length: 120,
        tab_width: 4,
        sort_by: cbindgen::SortKey::None,
        ..cbindgen::Config::default()
    };
    let structs = sdk_types(source);
    let forward: String = structs.iter().map(|(_, in_c)| format!("\n{in_c};")).collect();
    config.after_includes = Some(format!("#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n{forward}"));
    config.export.rename.extend(structs.into_iter().map(|(name, in_c)| (name.to_owned(), in_c)));
    for (name, in_c) in contract::items(source) {
        config.export.include.push(name.to_owned());
        config.export.rename.insert(name.to_owned(), in_c);
    }
    config
}

/// Returns the types of the SDK that a source names, each with its C struct.
fn sdk_types(source: &str) -> Vec<(&str, String)> {
    let names: BTreeSet<_> = contract::code(source)
        .flat_map(contract::words)
        .filter(|word| word.starts_with("dap_") && word.ends_with("_t"))
        .collect();
    names.into_iter().map(|name| (name, format!("struct {}", name.trim_end_matches("_t")))).collect()
}
