//! Compiles the C half of the seam against the headers of the linked SDK.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::seam;

/// The folder of the C files.
const FOLDER: &str = "src/sdk/glue";

/// A difference between releases of the SDK.
struct Offer {
    /// The macro that tells the C files.
    name: &'static str,
    header: &'static str,
    /// C that compiles only with a release that has it.
    code: &'static str,
    /// What it is, for the build's report.
    what: &'static str,
}

const OFFERS: &[Offer] = &[
    Offer {
        name: "VPN_SDK_COMMAND_WITH_RPC",
        header: "dap_cli_server.h",
        code: "dap_cli_server_cmd_add(\"\", COMMAND, 0, \"\", \"\")",
        what: "commands with an RPC argument",
    },
    Offer {
        name: "VPN_SDK_COMMAND",
        header: "dap_cli_server.h",
        code: "dap_cli_server_cmd_add(\"\", COMMAND, \"\", \"\")",
        what: "commands without an RPC argument",
    },
    Offer {
        name: "VPN_SDK_COMMAND_REMOVE",
        header: "dap_cli_server.h",
        code: "dap_cli_server_cmd_remove(\"\")",
        what: "commands can be removed",
    },
    Offer {
        name: "VPN_SDK_USAGE_STATE",
        header: "dap_chain_net_srv_stream_session.h",
        code: "(void)((dap_chain_net_srv_usage_t *)0)->service_substate",
        what: "usage has service_state and service_substate",
    },
    Offer {
        name: "VPN_SDK_USAGE_PREVIOUS",
        header: "dap_chain_net_srv_stream_session.h",
        code: "dap_chain_net_srv_usage_t *usage = 0; (void)usage->tx_cond_hash_prev; (void)usage->mempool_wait_count; \
               (void)usage->tx_recreate_count",
        what: "usage has tx_cond_hash_prev, mempool_wait_count and tx_recreate_count",
    },
    Offer {
        name: "VPN_SDK_PAY_KEY_HASH",
        header: "dap_chain_mempool.h",
        code: "PAY((dap_hash_fast_t *)0)",
        what: "payments by the hash of a key",
    },
    Offer {
        name: "VPN_SDK_PAY_KEY",
        header: "dap_chain_mempool.h",
        code: "PAY((dap_pkey_t *)0)",
        what: "payments by a key",
    },
];

/// Makes cargo build again when a header changes that the seam is compiled against, as the compiler lists them. It
/// leaves out the headers in `out`, which this program has just written.
fn depend_on_headers(glue: &cc::Build, files: &[PathBuf], out: &Path) {
    let output = glue.get_compiler().to_command().arg("-M").args(files).output().expect("the C compiler runs");
    let rules = String::from_utf8_lossy(&output.stdout);
    let listed = rules.split_whitespace().filter(|word| *word != "\\" && !word.ends_with(':'));
    let paths: BTreeSet<_> = listed.filter(|path| !Path::new(path).starts_with(out)).collect();
    for path in paths {
        println!("cargo:rerun-if-changed={path}");
    }
}

/// Defines the macros of the features that the SDK's headers have. Returns what they are.
fn probe(glue: &mut cc::Build, out: &Path) -> Vec<&'static str> {
    let source = out.join("probe.c");
    let compiler = glue.get_compiler();
    let mut found = Vec::new();
    for Offer { name, header, code, what } in OFFERS {
        let text = format!(
            "#include \"dap_common.h\"\n#include \"{header}\"\n\
             #define COMMAND (int (*)(int, char **, void **, int))0\n\
             #define PAY(key) extern uint256_t none; extern dap_chain_net_srv_price_unit_uid_t unit; \\\n\
                 extern dap_chain_net_srv_uid_t uid; \\\n\
                 dap_chain_mempool_tx_create_cond(0, 0, key, \"\", none, none, unit, uid, none, 0, 0, \"\")\n\
             void probe(void);\nvoid probe(void) {{ {code}; }}\n"
        );
        fs::write(&source, text).expect("the build directory is writable");
        let mut command = compiler.to_command();
        command.args(["-fsyntax-only", "-Werror=implicit-function-declaration", "-Werror=incompatible-pointer-types"]);
        let output = command.arg(&source).output().expect("the C compiler runs");
        if output.status.success() {
            glue.define(name, None);
            found.push(*what);
        }
    }
    found
}

/// Returns the C files for the linked SDK: of each pair `x_embedded.c` and `x_node.c`, one.
fn sources(embedded: bool) -> Vec<PathBuf> {
    let other = if embedded { "_node.c" } else { "_embedded.c" };
    let entries = fs::read_dir(FOLDER).unwrap_or_else(|error| panic!("{FOLDER}: {error}"));
    let paths = entries.map(|entry| entry.unwrap_or_else(|error| panic!("{FOLDER}: {error}")).path());
    let mut files: Vec<_> =
        paths.filter(|path| path.to_str().is_some_and(|name| name.ends_with(".c") && !name.ends_with(other))).collect();
    files.sort();
    files
}

/// Writes the header for the C files into `folder`.
fn write_header(root: &Path, folder: &Path) {
    let header = seam::header(&root.join("src/sdk/raw.rs")).unwrap_or_else(|error| panic!("{error}"));
    fs::create_dir_all(folder).expect("the build directory is writable");
    fs::write(folder.join("vpn_glue.h"), header).expect("the build directory is writable");
    println!("cargo:rustc-env=VPN_GLUE_HEADER={}", folder.join("vpn_glue.h").display());
}

/// Compiles the C half with the flags and includes of the linked SDK.
pub(crate) fn compile(root: &Path, out: &Path, embedded: bool) {
    let headers = out.join("glue");
    write_header(root, &headers);
    let files = sources(embedded);
    let mut glue = cc::Build::new();
    glue.files(&files).include(&headers).std("gnu11").warnings(true).extra_warnings(true);
    // Without this warning, no compiler checks a function that raw.rs does not declare.
    glue.flag("-fvisibility=hidden").flag("-Wmissing-prototypes");
    if embedded {
        glue.include(root.join("include")).include(root.join("include/embedded")).warnings_into_errors(true);
    } else {
        let Some(file) = env::var_os("VPN_SDK_FLAGS") else {
            println!(
                "cargo:warning=feature `sdk`: VPN_SDK_FLAGS is not set, the C half of the seam is left out; build through \
                 CMake"
            );
            return;
        };
        let flags = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", Path::new(&file).display()));
        println!("cargo:rerun-if-changed={}", Path::new(&file).display());
        glue.define("_GNU_SOURCE", None);
        flags.lines().filter(|flag| !flag.is_empty()).for_each(|flag| {
            glue.flag(flag);
        });
    }
    depend_on_headers(&glue, &files, out);
    let found = probe(&mut glue, out);
    if !embedded {
        println!("cargo:warning=this SDK: {}", found.join("; "));
    }
    glue.compile("vpn_glue");
}
