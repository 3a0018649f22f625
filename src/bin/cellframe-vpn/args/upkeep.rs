//! `repair`: what keeps this machine in order.

pub(super) const REPAIR_ABOUT: &str = "\
Undoes what a client or server has left on this machine that was killed, or that
the machine went down with: name servers in /etc/resolv.conf, the kill switch,
address translation and forwarding, in this network namespace. The next start
does the same by itself, but keeps the kill switch until it is stopped. What
belongs to a client or server that runs stays. Each change is a line; it may be
run at any time.";

pub(super) const REPAIR_HELP: &str = "\
Example: sudo cellframe-vpn repair

Exit codes: 0 nothing is left, or what is left belongs to a process that runs, 1 something cannot be undone,
  6 not root, 7 the output cannot be written";
