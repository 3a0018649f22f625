//! Collects the facts. It changes nothing on this machine: a check of a server keeps what it learns in a directory of its
//! own, which is removed.

mod ask;
mod kernel;
mod network;
mod process;
mod server;

use std::path::Path;

use embedded::config::Config;

use super::facts::{ClientEnd, Facts, Runs};
use crate::args::DoctorOptions;
use crate::control;
use crate::exit::Failure;
use crate::settings::{self, Role};

/// Collects what is known of this machine for these roles.
pub(super) fn facts(options: &DoctorOptions, is_server: bool, is_client: bool) -> Result<Facts, Failure> {
    let file = settings::read(options.config.as_deref());
    // A file that the command line names must be readable; what stands in it is a finding.
    if let (Err(failure), Some(_)) = (&file, &options.config) {
        return Err(Failure::new(failure.code, failure.message.clone()));
    }
    let (config, keys) = match file {
        Ok(config) => {
            let keys = match config.check() {
                Ok(()) => Ok(settings::unknown_keys(&config)),
                Err(error) => Err(error.to_string()),
            };
            (config, keys)
        }
        Err(failure) => (Config::empty(), Err(failure.message)),
    };
    let placed = |role| settings::place(config.clone(), role, options.state_dir.as_deref());
    let network = network::network();
    let server = is_server.then(|| placed(Role::Server)).transpose()?;
    let client = is_client.then(|| placed(Role::Client)).transpose()?;
    Ok(Facts {
        machine: kernel::machine(),
        config: config.origin().to_owned(),
        keys,
        server: server.map(|config| server::server(&config, &network, options)),
        client: client.map(|config| client_end(&config)),
        asked: options.connect.as_ref().map(|target| ask::server(target, options)),
        network,
    })
}

/// Whether a process of this role runs here, or has run: it then has a state directory.
pub(super) fn is_known(role: Role, options: &DoctorOptions) -> Result<bool, Failure> {
    // That a file cannot be read is a finding.
    let config = settings::read(options.config.as_deref()).unwrap_or_else(|_| Config::empty());
    let directory = settings::place(config, role, options.state_dir.as_deref())?.state_path();
    Ok(Path::new(&directory).exists())
}

fn client_end(config: &Config) -> ClientEnd {
    let process = process::process(config);
    let status = match process.runs {
        Runs::Yes(_) => {
            let net = crate::target::DEFAULT_NETWORK;
            let socket = embedded::cli::socket_path(config);
            let text = control::call(Role::Client, &socket, &["vpn_client", "status", "-net", net, "-json"]).ok();
            text.and_then(|text| serde_json::from_str(&text).ok())
        }
        Runs::No | Runs::Hidden => None,
    };
    let ipv6 = config.get_str("vpn_client", "ipv6").unwrap_or_else(|| "block".to_owned());
    ClientEnd { process, ipv6, status }
}
