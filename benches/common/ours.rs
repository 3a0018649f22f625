//! This build of cellframe-vpn at both ends.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use super::Ends;
use super::failure::Failure;
use super::host::Host;
use super::running::Running;

const PORT: u16 = 8079;

/// The program, and a directory for the files of its ends.
pub(crate) struct Ours {
    pub(crate) program: PathBuf,
    pub(crate) directory: PathBuf,
}

/// A running server, and how its clients reach it.
pub(crate) struct Server {
    pub(crate) running: Running,
    pin: String,
}

impl Ours {
    /// Starts the tunnel with `more` in the sections of both ends.
    pub(crate) fn start(&self, hosts: Ends<&Host>, outer: Ipv4Addr, more: &str) -> Result<Ends<Running>, Failure> {
        let server = self.start_server(hosts.server, more)?;
        let client = self.start_client(hosts.client, "client", &server, outer, more)?;
        let log = server.running.log();
        for key in more.lines() {
            let name = key.split('=').next().unwrap_or(key);
            if log.lines().any(|line| line.contains("no such key") && line.contains(name)) {
                return Err(Failure::Missing(format!("this build has no key {key}")));
            }
        }
        Ok(Ends { client, server: server.running })
    }

    /// Starts a server that listens on all addresses of its host.
    pub(crate) fn start_server(&self, host: &Host, more: &str) -> Result<Server, Failure> {
        let config = format!(
            "[server]\nlisten_address=[0.0.0.0:{PORT}]\n\
             [srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\nnat=off\n{more}"
        );
        let mut running = host.start(&self.command("server", "server", &config)?)?;
        let pin = running.wait_for("its ready line", |server| {
            let said = server.stdout();
            let (_, pin) = said.strip_suffix('\n')?.rsplit_once(' ')?;
            Some(pin.to_owned())
        })?;
        Ok(Server { running, pin })
    }

    /// Starts a client, and waits until it is connected to the server at the address `outer`. Each client has a name.
    pub(crate) fn start_client(
        &self,
        host: &Host,
        name: &str,
        server: &Server,
        outer: Ipv4Addr,
        more: &str,
    ) -> Result<Running, Failure> {
        // The host's name servers are this machine's, and its routes the bench's.
        let mut command = self.command("client", name, &format!("[vpn_client]\nroutes=[]\ndns=off\n{more}"))?;
        command.args(["--connect", &format!("{outer}:{PORT}"), "--pin", &server.pin]);
        let mut client = host.start(&command)?;
        client.wait_for("the tunnel", |client| client.stdout().contains("connected to").then_some(()))?;
        Ok(client)
    }

    fn command(&self, role: &str, name: &str, config: &str) -> Result<Command, Failure> {
        let (file, state) = (self.directory.join(format!("{name}.cfg")), self.directory.join(name));
        fs::write(&file, config).map_err(Failure::during(file.display()))?;
        let mut command = Command::new(&self.program);
        command.arg(role).arg("--config").arg(file).arg("--state-dir").arg(state);
        Ok(command)
    }
}
