//! `doctor`: says what is wrong with this machine for a server or a client, and what helps.
//!
//! `gather` collects [`facts`] and changes nothing; `checks` judges them, and looks at nothing else; `report` prints the
//! findings.

mod checks;
mod facts;
mod finding;
mod gather;
mod report;

use crate::args::DoctorOptions;
use crate::exit::{Code, Failure};
use crate::output;
use crate::settings::Role;
use finding::Level;

/// Checks this machine, and fails with exit code 1 if there is a fault.
pub(crate) fn run(options: &DoctorOptions) -> Result<(), Failure> {
    let (is_server, is_client) = roles(options)?;
    if options.state_dir.is_some() && is_server && is_client {
        let message = "--state-dir is the directory of one process; expected --server or --client with it";
        return Err(Failure::new(Code::Usage, message));
    }
    let facts = gather::facts(options, is_server, is_client)?;
    let findings = checks::all(&facts);
    if options.json {
        output::line(report::json(is_server, is_client, &findings));
    } else {
        let roles = match (is_server, is_client) {
            (true, true) => "server and as a client",
            (true, false) => "server",
            _ => "client",
        };
        output::styled_line(report::text(roles, &findings));
    }
    let faults: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Fault).collect();
    match faults.as_slice() {
        [] => Ok(()),
        [only] => Err(Failure::general(format!("1 fault: {}", only.check))),
        [first, ..] => Err(Failure::general(format!("{} faults; the first: {}", faults.len(), first.check))),
    }
}

/// What this machine is to be: what the command line says, else what runs or has run here, else both.
fn roles(options: &DoctorOptions) -> Result<(bool, bool), Failure> {
    if options.server || options.client {
        return Ok((options.server, options.client));
    }
    // Another machine's server is asked by a client.
    if options.connect.is_some() {
        return Ok((false, true));
    }
    if options.state_dir.is_some() {
        return Ok((true, true));
    }
    let known = (gather::is_known(Role::Server, options)?, gather::is_known(Role::Client, options)?);
    Ok(if known == (false, false) { (true, true) } else { known })
}
