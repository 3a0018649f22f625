//! Each check finds a fault that is planted.

use std::path::Path;

use crate::commands::Targets;
use crate::markdown::Document;
use crate::repository::{Repository, text};
use crate::{abi, commands, document, figures, keys, references};

fn of(path: &str, text: &str) -> Vec<Document> {
    vec![Document::parse(Path::new(path), text)]
}

#[test]
fn links() {
    let repository = Repository::read();
    let faults = |text: &str| references::broken_links(&of("docs/new.md", text), &repository).len();
    assert_eq!(faults("[a](wire.md) [b](../README.md) [c](https://example.com/x) [d](../examples)"), 0);
    assert_eq!(faults("[a](wires.md)"), 1);
    assert_eq!(faults("[a](README.md)"), 1);
    assert_eq!(faults("![a](no.svg)"), 1);
    let wire = Document::parse(Path::new("docs/wire.md"), "# Wire\n\n## MTU\n");
    let faults = |text: &str| {
        let documents = [of("docs/new.md", text).remove(0), Document::parse(&wire.path, "# Wire\n\n## MTU\n")];
        references::broken_links(&documents, &repository).len()
    };
    assert_eq!(faults("[a](wire.md#mtu), [a](wire.md), \"MTU\" and \"MTU\" in [a](wire.md)"), 0);
    assert_eq!(faults("[a](wire.md#mtus)"), 1);
    assert_eq!(faults("[a](wire.md), \"The\nMTU\""), 1);
    assert_eq!(faults("\"The MTU\" in [a](wire.md)"), 1);
}

#[test]
fn files() {
    let repository = Repository::read();
    let faults = |text: &str| references::missing_files(&of("README.md", text), &repository).len();
    assert_eq!(faults("`src/lib.rs` `vpn-core/forward/table.rs` `c-tests/run.sh` `crates/` `10.0.0.0/8` `a/b`"), 0);
    assert_eq!(faults("`src/librs`, `src/abi/code.rs`, `c-tests/runs.sh`, `crate.rs`, `forward/tabel.rs`"), 5);
    assert_eq!(faults("`sdk/glue/*.c`"), 0);
    assert_eq!(faults("`sdk/glues/*.c`"), 1);
}

#[test]
fn rusts() {
    let manifest = "rust-version = \"1.95\"";
    let faults = |text: &str| references::other_rusts(&[("a.md".into(), text.to_owned())], manifest).len();
    assert_eq!((faults("With Rust 1.95. And Rust 1.95"), faults("Rust 1.9"), faults("Rust 1.96 here")), (0, 1, 1));
}

#[test]
fn tests_of_promises() {
    let names = references::names_of_tests(&Repository::read());
    let faults = |row: &str| {
        let text = format!("| promise | test | last figure |\n|---|---|---|\n| x | {row} | |\n");
        references::missing_tests(&of("docs/reliability.md", &text)[0], &names).len()
    };
    assert_eq!(
        faults("`tunnel`, `restart::clients_keep_their_addresses_and_connections_when_the_server_is_killed`"),
        0
    );
    assert_eq!(faults("`restart::clients_keep_their_addresses`"), 1);
    assert_eq!(faults("`captive::*`, `captives::*`"), 1);
    assert_eq!(faults("none"), 1);
}

#[test]
fn targets_of_cargo() {
    let targets = Targets::read(&Repository::read());
    let faults = |text: &str| commands::unknown_targets(&of("README.md", text), &targets).len();
    assert_eq!(faults("`cargo bench --bench path -- --bench x`, `VAR=1 cargo test -p vpn-core --test simulation`"), 0);
    assert_eq!(
        faults("`cargo bench --bench paths`, `cargo test -p vpncore`\n\n    cargo nextest run --test tunnels\n"),
        3
    );
}

#[test]
fn figures_without_day_or_command() {
    let faults = |text: &str| {
        // The sections are read from the file; its text is what counts here.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("performance.md");
        std::fs::write(&path, text).unwrap();
        let document = Document::parse(&path, text);
        figures::undated_figures(&document).len() + figures::undated_speeds(&document).len()
    };
    assert_eq!(faults("# A\n\n`cargo bench --bench path` on 2026-11-29: 5 ms\n\n## B\n\nNothing.\n"), 0);
    assert_eq!(faults("# A\n\n`cargo bench --bench path`: 5 ms\n"), 1);
    assert_eq!(faults("# A\n\n`cargo bench --bench path`: 5 Mbit/s\n"), 2);
    assert_eq!(faults("# A\n\n2026-11-29: 5 ms, and 4 Mbit/s\n"), 1);
    let benches = ["path".to_owned()].into();
    assert_eq!(figures::benches_without_command(&document("docs/abi.md"), &benches).len(), 1);
    let row = |figure: &str| {
        let text = format!("| promise | test | last figure |\n|---|---|---|\n| x | `y` | {figure} |\n");
        figures::undated_rows(&of("docs/reliability.md", &text)[0]).len()
    };
    assert_eq!((row("10 of 10; 2026-11-29, 2 cores"), row("10 of 10"), row("")), (0, 1, 0));
    assert_eq!(figures::measured_in_blocks(&of("README.md", "    upload 800 Mbit/s\n")[0].blocks), [1]);
}

/// Replaces a text that docs/abi.md has, and returns the document.
fn changed(from: &str, to: &str) -> Document {
    let text = text(Path::new("docs/abi.md"));
    assert!(text.contains(from), "{from}");
    Document::parse(Path::new("docs/abi.md"), &text.replace(from, to))
}

#[test]
fn the_abi() {
    let repository = Repository::read();
    let exports = abi::exports(&repository, "src/abi");
    assert_eq!(abi::function_faults(&changed("`pkt_out(ch)`", "`pkt_outs(ch)`"), &exports, "").len(), 2);
    let codes = text(Path::new("src/abi/codes.rs"));
    assert_eq!(abi::code_faults(&changed("| -100 |", "| -101 |"), &codes).len(), 1);
    assert_eq!(abi::code_faults(&changed("-3 no transaction", "-4 no transaction"), &codes).len(), 1);
    let headers: String =
        repository.sources(&["h"]).filter(|path| path.starts_with("include")).map(|p| text(p)).collect();
    assert_eq!(abi::constant_faults(&changed("PING c0", "PING c2"), &headers).len(), 1);
    assert_eq!(abi::constant_faults(&changed("TUNNEL_DOWN 2, ", ""), &headers).len(), 1);
    assert_eq!(abi::constant_faults(&changed("0xFFFF", "0xFFFE"), &headers).len(), 1);
    let visible = text(Path::new("src/sdk/visible.rs"));
    assert_eq!(abi::layout_faults(&changed("| 24, 8 |", "| 32, 8 |"), &visible).len(), 1);
    assert_eq!(abi::layout_faults(&changed("addr_ipv4 32", "addr_ipv4 36"), &visible).len(), 1);
    assert_eq!(abi::header_faults(&changed("| `dap_stream_ch_vpn.h` |", "| `dap_stream.h` |"), &repository).len(), 2);
    let exports = abi::exports(&repository, "crates/embedded/src/abi");
    assert!(!abi::function_faults(&document("docs/abi.md"), &exports, "").is_empty());
}

#[test]
fn keys_of_the_configuration() {
    let reads = keys::reads(&Repository::read());
    let config = text(Path::new("docs/config.md"));
    let faults = |from: &str, to: &str| {
        assert!(config.contains(from), "{from}");
        keys::faults(&Document::parse(Path::new("docs/config.md"), &config.replacen(from, to, 1)), &reads).len()
    };
    assert_eq!(faults("| `keep_alive` ~ | 1 to 3600 s | 20 |", "| `keep_alive` ~ | 1 to 3600 s | 21 |"), 1);
    assert_eq!(faults("| `payment_timeout` ! ~ | 5 to 86400 s |", "| `payment_timeout` ! ~ | 5 to 86401 s |"), 1);
    assert_eq!(faults("| `prove_key` ! ~ | truth value | true |", "| `prove_key` ! ~ | truth value | false |"), 1);
    assert_eq!(faults("| `reconnect` | truth value | true |", "| `reconnects` | truth value | true |"), 2);
    assert_eq!(
        faults(
            "| `[server] idle_timeout` ! ~ | 1 to 86400 s | 60 |",
            "| `[server] idle_timeout` ! ~ | 1 to 86400 s | 61 |"
        ),
        1
    );
}
