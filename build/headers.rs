//! Writes the public C headers with cbindgen, from the Rust sources that define their contents.

use std::fs;
use std::path::Path;

/// A public header: its file name, its sources, its includes, and whether it contains the packet and the constants that
/// cbindgen.toml spells out.
struct Header {
    name: &'static str,
    sources: &'static [&'static str],
    includes: &'static [&'static str],
    packet: bool,
    exclude: &'static [&'static str],
    note: &'static str,
}

const SDK_INCLUDES: &[&str] = &[
    "dap_common.h",
    "dap_config.h",
    "dap_events.h",
    "dap_events_socket.h",
    "dap_stream_ch.h",
    "dap_stream_ch_pkt.h",
    "dap_chain_net_srv.h",
    "dap_chain_net_srv_vpn_common.h",
];

const HEADERS: &[Header] = &[
    Header {
        name: "dap_chain_net_srv_vpn_common.h",
        sources: &["src/abi/common.rs"],
        includes: &[],
        packet: false,
        exclude: &[],
        note: "The VPN service's number, and its tag in the ledger.",
    },
    Header {
        name: "dap_chain_net_srv_vpn.h",
        sources: &["src/sdk/visible.rs", "src/abi/server.rs"],
        includes: SDK_INCLUDES,
        packet: true,
        exclude: &[],
        note: "The VPN service of a node: packets, structs, start and stop.",
    },
    Header {
        name: "dap_chain_net_vpn_client.h",
        sources: &["src/abi/client.rs"],
        includes: &["dap_stream_worker.h", "dap_stream_session.h", "dap_chain_net.h", "dap_chain_net_srv_vpn.h"],
        packet: false,
        exclude: &[],
        note: "The VPN client of a node.",
    },
    Header {
        name: "dap_chain_net_vpn_client_tun.h",
        sources: &["src/abi/client_tun.rs"],
        includes: &["dap_chain_net_srv_vpn.h"],
        packet: false,
        // the legacy module exports these without declaring them; the packet is dap_chain_net_srv_vpn.h's
        exclude: &[
            "dap_stream_ch_vpn_pkt_t",
            "tun_device_create",
            "save_current_connection_interface_data",
            "disableIPV6",
            "enableIPV6",
            "m_client_tun_new",
        ],
        note: "The VPN client's TUN device.",
    },
    Header {
        name: "dap_chain_net_srv_vpn_cmd.h",
        sources: &["src/abi/cmd.rs"],
        includes: &[],
        packet: false,
        exclude: &[],
        note: "The commands vpn_stat and vpn_client.",
    },
    Header {
        name: "dap_stream_ch_vpn.h",
        sources: &[],
        includes: &["dap_chain_net_srv_vpn.h"],
        packet: false,
        exclude: &[],
        note: "An older name of dap_chain_net_srv_vpn.h.",
    },
];

/// The names of the SDK's headers under which the embedded SDK's header can be included.
const EMBEDDED_NAMES: &[&str] = &[
    "dap_cert",
    "dap_chain_common",
    "dap_chain_datum_tx_receipt",
    "dap_chain_ledger",
    "dap_chain_net",
    "dap_chain_net_srv",
    "dap_chain_net_srv_order",
    "dap_chain_net_srv_stream_session",
    "dap_chain_node_client",
    "dap_cli_server",
    "dap_client",
    "dap_common",
    "dap_config",
    "dap_events",
    "dap_events_socket",
    "dap_global_db",
    "dap_hash",
    "dap_http_server",
    "dap_http_simple",
    "dap_server",
    "dap_sign",
    "dap_stream",
    "dap_stream_ch",
    "dap_stream_ch_chain_net_srv",
    "dap_stream_ch_chain_net_srv_pkt",
    "dap_stream_ch_pkt",
    "dap_stream_ch_proc",
    "dap_stream_session",
    "dap_stream_worker",
    "dap_timerfd",
    "dap_worker",
    "http_status_code",
];

const EMBEDDED_SOURCES: &[&str] = &[
    "crates/embedded/src/ctypes/base.rs",
    "crates/embedded/src/ctypes/net.rs",
    "crates/embedded/src/ctypes/events.rs",
    "crates/embedded/src/ctypes/stream.rs",
    "crates/embedded/src/ctypes/receipt.rs",
    "crates/embedded/src/ctypes/service.rs",
    "crates/embedded/src/ctypes/client.rs",
    "crates/embedded/src/ctypes/node.rs",
    "crates/embedded/src/ctypes/bank.rs",
    "crates/embedded/src/ctypes/ledger.rs",
    "crates/embedded/src/ctypes/cert.rs",
    "crates/embedded/src/ctypes/log_level.rs",
    "crates/embedded/src/abi/cli.rs",
    "crates/embedded/src/abi/client.rs",
    "crates/embedded/src/abi/config.rs",
    "crates/embedded/src/abi/events/lifecycle.rs",
    "crates/embedded/src/abi/events/workers.rs",
    "crates/embedded/src/abi/events/sockets.rs",
    "crates/embedded/src/abi/events/queues.rs",
    "crates/embedded/src/abi/events/timers.rs",
    "crates/embedded/src/abi/http.rs",
    "crates/embedded/src/abi/ledger.rs",
    "crates/embedded/src/abi/log.rs",
    "crates/embedded/src/abi/net.rs",
    "crates/embedded/src/abi/cert.rs",
    "crates/embedded/src/abi/hash.rs",
    "crates/embedded/src/abi/bank.rs",
    "crates/embedded/src/abi/payment.rs",
    "crates/embedded/src/abi/receipt.rs",
    "crates/embedded/src/abi/service.rs",
    "crates/embedded/src/abi/store.rs",
    "crates/embedded/src/abi/stream.rs",
];

/// Writes all public headers below `out`.
pub(crate) fn write(root: &Path, out: &Path) {
    fs::create_dir_all(out.join("embedded")).expect("the build directory is writable");
    let base = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    for header in HEADERS {
        let mut config = base.clone();
        config.header = Some(banner(header.note));
        config.include_guard = Some(guard(header.name));
        let mut includes = ["#include <stdbool.h>", "#include <stddef.h>", "#include <stdint.h>"].join("\n");
        if header.packet {
            includes.push_str("\n#include <netinet/in.h>");
        }
        includes.push('\n');
        for include in header.includes {
            includes.push_str(&format!("\n#include \"{include}\""));
        }
        let service_id = "\n\n#define DAP_CHAIN_NET_SRV_VPN_ID 0x0000000000000001ULL\n";
        config.after_includes = Some(match (header.packet, header.name) {
            (true, _) => includes + "\n" + base.after_includes.as_deref().unwrap_or(""),
            (_, "dap_chain_net_srv_vpn_common.h") => includes + service_id,
            _ => includes,
        });
        config.export.exclude.extend(header.exclude.iter().map(|name| name.to_string()));
        generate(root, header.sources, config, &out.join(header.name));
    }

    let mut config = base.clone();
    config.header =
        Some(banner("The embedded SDK, for C programs that run without a Cellframe node. See docs/embedded-sdk.md."));
    config.pragma_once = true; // a guard would end in front of the trailer
    let part = |name: &str| {
        fs::read_to_string(root.join("crates/embedded/src").join(name)).expect("the header's C parts exist")
    };
    let includes = ["stdarg", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string", "netinet/in"];
    let includes: String = includes.iter().map(|name| format!("#include <{name}.h>\n")).collect();
    let structs = EMBEDDED_SOURCES
        .iter()
        .filter(|source| source.contains("/ctypes/"))
        .flat_map(|source| public_names(&root.join(source), &["pub struct "]));
    let forward: String = structs.map(|name| format!("struct {name};\n")).collect();
    config.after_includes = Some(includes + &part("prelude.h") + &forward);
    config.trailer = Some(part("trailer.h"));
    config.layout.packed = Some("__attribute__((packed))".into());
    config.export.exclude.clear();
    generate(root, EMBEDDED_SOURCES, config, &out.join("embedded/dap_embedded_sdk.h"));
    for name in EMBEDDED_NAMES {
        let text = "/* The embedded SDK under the name of the SDK's header. */\n#include \"dap_embedded_sdk.h\"\n";
        fs::write(out.join(format!("embedded/{name}.h")), text).expect("the build directory is writable");
    }
}

fn generate(root: &Path, sources: &[&str], config: cbindgen::Config, to: &Path) {
    let mut config = config;
    config.export.include = sources
        .iter()
        .flat_map(|source| public_names(&root.join(source), &["pub struct ", "pub enum ", "pub type "]))
        .collect();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in sources {
        builder = builder.with_src(root.join(source));
    }
    let bindings = builder.generate().unwrap_or_else(|error| panic!("cbindgen on {}: {error}", to.display()));
    let mut text = Vec::new();
    bindings.write(&mut text);
    fs::write(to, text).expect("the build directory is writable");
}

/// Returns the names of a source's public items of some kinds: cbindgen leaves out items that no function mentions.
fn public_names(source: &Path, kinds: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let name_of = |line: &str| {
        let rest = kinds.iter().find_map(|start| line.strip_prefix(start))?;
        Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_string())
    };
    text.lines().filter_map(name_of).collect()
}

fn banner(note: &str) -> String {
    format!("/* {note}\n *\n * Written by cbindgen; change the Rust source, then VPN_UPDATE_HEADERS=1 cargo build. */")
}

fn guard(name: &str) -> String {
    name.to_uppercase().replace(['.', '-'], "_")
}

/// Copies a directory; unchanged files keep their time stamps.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("include/ is writable");
    for entry in fs::read_dir(from).expect("the generated headers exist").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            let text = fs::read(entry.path()).expect("a generated header is readable");
            if fs::read(&target).ok().as_deref() != Some(&text) {
                fs::write(&target, text).expect("include/ is writable");
            }
        }
    }
}
