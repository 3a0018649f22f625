//! `demo`, and the ends that it starts.

use clap::Args;

pub(super) const DEMO_ABOUT: &str = "\
Runs a server and a client in two private network namespaces, connected by a
virtual cable, and sends real traffic through the tunnel: pings, an upload, a
download. Then it prints the measurements.

With --internet there is a third host, an Internet with a web server and a name
server. The client fetches a page by name while a capture on its cable shows that
nothing but the stream to the server leaves. Then the server is killed: the kill
switch refuses every way around it. It is started again, and the client's TCP
connection to the web server goes on.

With --paid the server sells: the client pays receipt by receipt out of a wallet
until the money ends, and goes on when the operator has funded the wallet again.
In the end the sums of both ends and of the ledger are compared.

It needs no configuration and no network, and changes nothing on this machine:
the namespaces disappear with it, even when it is interrupted. As root it works
wherever network namespaces do; other users need unprivileged user namespaces
and permission to open /dev/net/tun. If the kernel does not allow this, the
demo names what is missing and exits with 6.";

#[derive(Args, Debug)]
#[command(
    after_help = concat!(
        "Examples:\n",
        "  cellframe-vpn demo                    about eight seconds\n",
        "  cellframe-vpn demo --seconds 10       measure for longer\n",
        "  cellframe-vpn demo --internet         about five seconds\n",
        "  cellframe-vpn demo --paid             about fifteen seconds\n",
        "  cellframe-vpn demo --json | jq .upload.mbit_per_second\n\n",
        "Exit codes: 0 traffic passed, 1 traffic failed or sums differ, 6 namespaces or TUN not allowed here, 130 or 143 interrupted"
    )
)]
pub(crate) struct DemoOptions {
    /// Seconds to send in each direction
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Show the Internet through the tunnel and nothing around it, also when the server dies
    #[arg(long, conflicts_with = "seconds")]
    pub(crate) internet: bool,
    /// Show a server that sells, and a client that pays until its money ends, and goes on with more
    #[arg(long, conflicts_with_all = ["seconds", "internet"])]
    pub(crate) paid: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DemoEndOptions {
    /// The end to run
    #[arg(value_enum)]
    pub(crate) role: EndRole,
    /// Process id of the demo; the end never outlives it
    #[arg(long)]
    pub(crate) parent: u32,
    /// Process id of the end whose user namespace to join
    #[arg(long)]
    pub(crate) beside: Option<u32>,
}

/// The ends of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EndRole {
    Server,
    Client,
    Internet,
}
