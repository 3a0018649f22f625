//! The host's name servers while a tunnel is up, and the ones from before when it is not.
//!
//! `resolved` tells systemd-resolved, where it runs: what it is told ends with the tunnel's link. [`resolv_conf`] replaces
//! the file that the C library reads, unless that asks systemd-resolved; what it leaves behind says by itself how to undo
//! it.

pub mod resolv_conf;
mod resolved;
mod shared;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::owner::Owner;
use resolv_conf::{Known, Place, ResolvConfError, Undone};
pub use resolved::ResolvedError;

/// How often within [`REWRITES_TIME`] ours is put on top of what something else has written.
const REWRITES_MAX: usize = 5;
const REWRITES_TIME: Duration = Duration::from_secs(60);

/// The name servers of a tunnel, in force on this host until [`undo`](NameServers::undo). A value that is dropped leaves
/// them in force.
#[derive(Debug)]
pub struct NameServers {
    servers: Vec<Ipv4Addr>,
    link: u32,
    /// systemd-resolved has them.
    in_resolved: bool,
    file: Option<OurFile>,
}

/// Our resolv.conf.
#[derive(Debug)]
struct OurFile {
    place: Place,
    known: Known,
    /// When something else has written it.
    rewritten: Vec<Instant>,
}

impl NameServers {
    /// Makes `servers` the host's name servers, by way of the link with this index; those of an earlier call need not be
    /// undone first. Undoes first what a killed process has left. Blocks for some seconds at most.
    ///
    /// # Errors
    /// [`ResolvConfError`]: nothing has changed then.
    pub fn set(servers: &[Ipv4Addr], link: u32) -> Result<NameServers, ResolvConfError> {
        let place = Place::of_host();
        let in_resolved = match resolved::set(link, servers) {
            Ok(is_set) => is_set,
            Err(error) => {
                log::warn!("systemd-resolved does not take the name servers of the tunnel: {error}");
                false
            }
        };
        let mut name_servers = NameServers { servers: servers.to_owned(), link, in_resolved, file: None };
        if in_resolved && place.asks_resolved() {
            return Ok(name_servers);
        }
        let set = match shared::is_shared(&place.file(), &shared::OF_MACHINE.map(Path::new)) {
            true => Err(ResolvConfError::Shared(place.file())),
            false => place.set(servers, &Owner::this()),
        };
        if let Err(error) = set {
            name_servers.undo_resolved();
            return Err(error);
        }
        name_servers.file = Some(OurFile { place, known: Known::default(), rewritten: Vec::new() });
        Ok(name_servers)
    }

    /// The servers.
    pub fn servers(&self) -> &[Ipv4Addr] {
        &self.servers
    }

    /// The index of the tunnel's link.
    pub fn link(&self) -> u32 {
        self.link
    }

    /// What they are in force by, for people.
    pub fn way(&self) -> &'static str {
        match (self.in_resolved, &self.file) {
            (true, Some(_)) => "systemd-resolved and resolv.conf",
            (true, None) => "systemd-resolved",
            (false, Some(_)) => "resolv.conf",
            (false, None) => "nothing any more",
        }
    }

    /// Puts ours on top if something else has written resolv.conf, such as a DHCP client: what it wrote is put back at the
    /// end. Gives up, with a warning, where that happens again and again. Call it about once a second.
    pub fn look(&mut self) {
        let Some(file) = &mut self.file else { return };
        let (this, path) = (Owner::this(), file.place.file());
        if file.place.is_set_by(&this, &mut file.known) {
            return;
        }
        let now = Instant::now();
        file.rewritten.retain(|at| now.duration_since(*at) < REWRITES_TIME);
        file.rewritten.push(now);
        let result = if file.rewritten.len() > REWRITES_MAX {
            Err(format!("it was written {} times within a minute", file.rewritten.len()))
        } else {
            file.place.set(&self.servers, &this).map_err(|error| error.to_string())
        };
        match result {
            Ok(()) => log::info!(
                "something else has written {}: the name servers of the tunnel are on top again, and what it wrote is put \
                 back at the end",
                path.display()
            ),
            Err(why) => {
                log::warn!(
                    "something else has written {}, and the name servers of the tunnel are in force no more: {why}; \
                     expected that nothing else writes it while the tunnel is up",
                    path.display()
                );
                self.file = None;
            }
        }
    }

    /// Puts back what was before. Says in the log what cannot be.
    pub fn undo(mut self) {
        self.undo_resolved();
        undo_resolv_conf();
    }

    fn undo_resolved(&mut self) {
        if std::mem::take(&mut self.in_resolved)
            && let Err(error) = resolved::revert(self.link)
        {
            // It forgets them with the link.
            log::debug!("systemd-resolved does not forget the name servers of the tunnel: {error}");
        }
    }
}

/// Puts back the resolv.conf from before a tunnel of this process, or of one that was killed, and says so in the log.
pub fn undo_resolv_conf() {
    let place = Place::of_host();
    let file = place.file();
    let file = file.display();
    match place.undo(&Owner::this()) {
        Ok(Undone::Nothing | Undone::Prepared) => {}
        Ok(Undone::PutBack | Undone::Removed) => log::info!("{file} is what it was before the tunnel"),
        Ok(Undone::Foreign) => log::info!("{file} stays: something else has written it since the tunnel came up"),
        Ok(Undone::Running(owner)) => log::debug!("{file} belongs to the tunnel of process {}", owner.pid),
        Ok(Undone::Lost) => log::warn!(
            "{file} names the servers of a tunnel that is gone, and the file before is missing; expected it beside: write \
             {file} anew"
        ),
        Err(error) => log::warn!("{file} cannot be put back: {error}; try `cellframe-vpn repair`"),
    }
}
