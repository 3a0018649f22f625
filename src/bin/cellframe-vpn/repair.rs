//! `repair`: undoes what a killed client or server has left on this host.
//!
//! What outlives a process carries its own record, so that this needs no configuration and no state directory. Each part
//! says what it has undone, or which running process it belongs to.

use host::dns::resolv_conf::{Place, Undone};
use host::nft;
use host::owner::Owner;

use crate::exit::{Code, Failure};
use crate::{output, privilege};

/// What one part came to: sentences about what was undone, and one about what cannot be.
#[derive(Default)]
struct Repaired {
    said: Vec<String>,
    failed: Option<String>,
}

/// Repairs each part, whatever became of the others, and says what was done.
pub(crate) fn run() -> Result<(), Failure> {
    privilege::require_network_admin()?;
    // The kill switch last: until then something might leave around the tunnel.
    let parts = [name_servers(), packet_filter()];
    if parts.iter().all(|part| part.said.is_empty() && part.failed.is_none()) {
        output::line("nothing to repair");
    }
    let mut failures = Vec::new();
    for part in parts {
        part.said.iter().for_each(output::line);
        failures.extend(part.failed);
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::new(Code::Failure, failures.join("; "))) }
}

/// Removes the server's address translation, with the forwarding that it has enabled, and the client's kill switch.
fn packet_filter() -> Repaired {
    match nft::repair() {
        Ok(said) => Repaired { said, failed: None },
        Err(error) => Repaired { said: Vec::new(), failed: Some(error.to_string()) },
    }
}

/// Puts the name servers back.
fn name_servers() -> Repaired {
    let place = Place::of_host();
    let file = place.file();
    let file = file.display();
    let said = match place.undo(&Owner::this()) {
        Ok(Undone::Nothing) => return Repaired::default(),
        Ok(Undone::PutBack) => format!("name servers: {file} is what it was before the tunnel"),
        Ok(Undone::Removed) => format!("name servers: {file} is removed; there was none before the tunnel"),
        Ok(Undone::Prepared) => format!("name servers: what was prepared beside {file} is removed"),
        Ok(Undone::Foreign) => format!(
            "name servers: {file} stays, which something else has written since; the older one beside it is removed"
        ),
        Ok(Undone::Running(owner)) => {
            format!("name servers: {file} stays; it belongs to the client in process {}, which runs", owner.pid)
        }
        Ok(Undone::Lost) => {
            let failed = format!(
                "name servers: {file} names those of a tunnel that is gone, and the file before is missing; expected it \
                 beside: write {file} anew"
            );
            return Repaired { failed: Some(failed), ..Repaired::default() };
        }
        Err(error) => return Repaired { failed: Some(format!("name servers: {error}")), ..Repaired::default() },
    };
    Repaired { said: vec![said], failed: None }
}
