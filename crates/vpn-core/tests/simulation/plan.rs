//! What a run consists of: who is there, what the network does, what happens to whom and when.

use proptest::collection::vec;
use proptest::prelude::*;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// For what the network draws message by message.
    pub(crate) seed: u64,
    /// Length of the subnet's prefix: how many addresses there are.
    pub(crate) prefix: u8,
    /// How long a returned address is kept for its client, milliseconds.
    pub(crate) hold: u64,
    /// The server pings after so long a silence, milliseconds.
    pub(crate) keep_alive: u64,
    pub(crate) network: NetworkPlan,
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) steps: Vec<Step>,
}

/// How bad the network is.
#[derive(Clone, Debug)]
pub(crate) struct NetworkPlan {
    /// Of 100 messages, how many are lost, and how many come twice.
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// The longest delay of a message: those with different delays overtake one another. Milliseconds.
    pub(crate) delay: u64,
    /// How late a timer fires at most, milliseconds.
    pub(crate) late: u64,
    /// Of 100 streams, how many cannot be made, and how many find channel 'S' taken.
    pub(crate) unreachable: u64,
    pub(crate) taken: u64,
}

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct HostPlan {
    /// Seconds.
    pub(crate) start_timeout: u64,
    pub(crate) keep_alive: u64,
    /// How long a device takes, milliseconds, and whether it can be made.
    pub(crate) device: u64,
    pub(crate) device_fails: bool,
}

/// Something that happens to a host at a time, milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: u64,
    pub(crate) host: usize,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// The user starts, or stops, the client.
    Start,
    Stop,
    /// The stream breaks, and both ends notice; or one alone.
    Break,
    BreakForClient,
    BreakForServer,
    /// The cable is cut: neither end notices.
    Cut,
    /// The billing side ends the service, or grants it again.
    EndService,
    GrantService,
    /// The server's stream is between two workers for a second.
    Move,
    /// The state directory is copied from the next host: two clients have one token.
    CopyToken,
    /// A timer that is not due: a tick, a time limit.
    Tick,
    Timeout,
    /// A packet to the client that no server of ours would send now.
    StrayProblem(u8),
    /// The client's program is killed: nobody says goodbye, and its token is as it was stored.
    Kill,
}

/// The last step is before this time, milliseconds.
pub(crate) const LAST_STEP: u64 = 30_000;

pub(crate) fn bad_plan() -> impl Strategy<Value = Plan> {
    let network = (0..40u64, 0..40u64, 0..3_000u64, 0..2_000u64, 0..20u64, 0..5u64).prop_map(
        |(lost, repeated, delay, late, unreachable, taken)| NetworkPlan {
            lost,
            repeated,
            delay,
            late,
            unreachable,
            taken,
        },
    );
    // Half of the runs have a network that lets most starts through.
    let network = prop_oneof![
        network,
        (0..3u64, 0..10u64, 0..100u64, 0..300u64).prop_map(|(lost, repeated, delay, late)| NetworkPlan {
            lost,
            repeated,
            delay,
            late,
            unreachable: 2,
            taken: 1,
        })
    ];
    let host = (1..=10u64, 1..=5u64, 0..2_000u64, 0..20u8).prop_map(|(start_timeout, keep_alive, device, fate)| {
        HostPlan { start_timeout, keep_alive, device, device_fails: fate == 0 }
    });
    let step = (0..LAST_STEP, 0..8usize, what()).prop_map(|(at, host, what)| Step { at, host, what });
    let server = (any::<u64>(), 28..=30u8, 0..20_000u64, 1_000..8_000u64);
    (server, network, vec(host, 1..=6), vec(step, 1..40)).prop_map(
        |((seed, prefix, hold, keep_alive), network, hosts, mut steps)| {
            for step in &mut steps {
                step.host %= hosts.len();
            }
            Plan { seed, prefix, hold, keep_alive, network, hosts, steps }
        },
    )
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        10 => Just(What::Start),
        4 => Just(What::Stop),
        2 => Just(What::Break),
        2 => Just(What::BreakForClient),
        1 => Just(What::BreakForServer),
        2 => Just(What::Cut),
        1 => Just(What::EndService),
        1 => Just(What::GrantService),
        1 => Just(What::Move),
        2 => Just(What::CopyToken),
        1 => Just(What::Tick),
        1 => Just(What::Timeout),
        1 => (0..6u8).prop_map(What::StrayProblem),
        2 => Just(What::Kill),
    ]
}

/// Every host starts once, and nothing goes wrong.
pub(crate) fn calm_plan() -> impl Strategy<Value = Plan> {
    let host = (5..=10u64, 1..=5u64, 0..500u64).prop_map(|(start_timeout, keep_alive, device)| HostPlan {
        start_timeout,
        keep_alive,
        device,
        device_fails: false,
    });
    (any::<u64>(), 0..200u64, vec((host, 0..LAST_STEP), 1..=12)).prop_map(|(seed, delay, hosts)| {
        let (hosts, starts): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
        let step = |(host, at)| Step { at, host, what: What::Start };
        Plan {
            seed,
            prefix: 28,
            hold: 10_000,
            keep_alive: 5_000,
            network: NetworkPlan { lost: 0, repeated: 0, delay, late: 50, unreachable: 0, taken: 0 },
            hosts,
            steps: starts.into_iter().enumerate().map(step).collect(),
        }
    })
}
