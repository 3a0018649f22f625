//! The plan of a run: hosts, network faults, and the steps with their times.

use proptest::collection::vec;
use proptest::prelude::*;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The seed of the network's random numbers.
    pub(crate) seed: u64,
    /// The length of the subnet's prefix, which bounds the number of addresses.
    pub(crate) prefix: u8,
    /// How long a returned address is kept for its client, in milliseconds.
    pub(crate) hold: u64,
    /// The silence after which the server pings, in milliseconds.
    pub(crate) keep_alive: u64,
    /// The most leases of a source.
    pub(crate) share: u32,
    /// How long an unused lease lasts when another client needs an address, in milliseconds.
    pub(crate) unused_after: u64,
    pub(crate) network: NetworkPlan,
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) steps: Vec<Step>,
    pub(crate) pauses: Vec<Pause>,
}

/// A time in which a process does not run (SIGSTOP, a suspended machine), in milliseconds. What arrives meanwhile waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    /// The host whose client does not run; `None` for the server.
    pub(crate) host: Option<usize>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Behind the pause the timers run before what waits is read.
    pub(crate) timers_first: bool,
}

/// How bad the network is.
#[derive(Clone, Debug)]
pub(crate) struct NetworkPlan {
    /// The percentage of messages that are lost, and that arrive twice.
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// The longest delay of a message, in milliseconds. Messages with different delays overtake one another.
    pub(crate) delay: u64,
    /// The longest delay of a timer, in milliseconds.
    pub(crate) late: u64,
    /// The percentage of streams that cannot be established, and that find channel 'S' taken.
    pub(crate) unreachable: u64,
    pub(crate) taken: u64,
}

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct HostPlan {
    /// In seconds.
    pub(crate) start_timeout: u64,
    pub(crate) keep_alive: u64,
    /// How long the creation of a device takes, in milliseconds, and whether it fails.
    pub(crate) device: u64,
    pub(crate) device_fails: bool,
    /// The number of its source; hosts behind one router have the same.
    pub(crate) source: u8,
    pub(crate) pays: bool,
}

/// An event on a host, at a time in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: u64,
    pub(crate) host: usize,
    pub(crate) kind: StepKind,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum StepKind {
    /// The user starts, or stops, the client.
    Start,
    Stop,
    /// The stream breaks, and both ends notice; or only one does.
    Break,
    BreakForClient,
    BreakForServer,
    /// The cable is cut; neither end notices.
    Cut,
    /// The billing side ends the service, or grants it again.
    EndService,
    GrantService,
    /// The server's stream moves between two workers for a second.
    Move,
    /// The state directory is copied from the next host: two clients have one token.
    CopyToken,
    /// A timer fires early: a tick, or a time limit.
    Tick,
    Timeout,
    /// A packet reaches the client that this library's server would not send now.
    StrayProblem(u8),
    /// The client's program is killed: it does not close the stream, and its token is as stored.
    Kill,
}

/// All steps are before this time, in milliseconds.
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
    // In half of the runs most starts succeed.
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
    let host = (1..=10u64, 1..=5u64, 0..2_000u64, 0..20u8, 0..3u8, 0..4u8).prop_map(
        |(start_timeout, keep_alive, device, fate, source, pays)| HostPlan {
            start_timeout,
            keep_alive,
            device,
            device_fails: fate == 0,
            source,
            pays: pays == 0,
        },
    );
    let step = (0..LAST_STEP, 0..8usize, step_kind()).prop_map(|(at, host, kind)| Step { at, host, kind });
    let server = (any::<u64>(), 28..=30u8, 0..20_000u64, 1_000..8_000u64, 1..6u32, 1_000..20_000u64);
    (server, network, vec(host, 1..=6), vec(step, 1..40)).prop_map(
        |((seed, prefix, hold, keep_alive, share, unused_after), network, hosts, mut steps)| {
            for step in &mut steps {
                step.host %= hosts.len();
            }
            let pauses = Vec::new();
            Plan { seed, prefix, hold, keep_alive, share, unused_after, network, hosts, steps, pauses }
        },
    )
}

fn step_kind() -> impl Strategy<Value = StepKind> {
    prop_oneof![
        10 => Just(StepKind::Start),
        4 => Just(StepKind::Stop),
        2 => Just(StepKind::Break),
        2 => Just(StepKind::BreakForClient),
        1 => Just(StepKind::BreakForServer),
        2 => Just(StepKind::Cut),
        1 => Just(StepKind::EndService),
        1 => Just(StepKind::GrantService),
        1 => Just(StepKind::Move),
        2 => Just(StepKind::CopyToken),
        1 => Just(StepKind::Tick),
        1 => Just(StepKind::Timeout),
        1 => (0..6u8).prop_map(StepKind::StrayProblem),
        2 => Just(StepKind::Kill),
    ]
}

/// Every host starts once, without faults.
pub(crate) fn calm_plan() -> impl Strategy<Value = Plan> {
    let host = (5..=10u64, 1..=5u64, 0..500u64).prop_map(|(start_timeout, keep_alive, device)| HostPlan {
        start_timeout,
        keep_alive,
        device,
        device_fails: false,
        source: 0,
        pays: false,
    });
    (any::<u64>(), 0..200u64, vec((host, 0..LAST_STEP), 1..=12)).prop_map(|(seed, delay, hosts)| {
        let (hosts, starts): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
        let step = |(host, at)| Step { at, host, kind: StepKind::Start };
        Plan {
            seed,
            prefix: 28,
            hold: 10_000,
            keep_alive: 5_000,
            share: 12,
            unused_after: 1_000,
            network: NetworkPlan { lost: 0, repeated: 0, delay, late: 50, unreachable: 0, taken: 0 },
            hosts,
            steps: starts.into_iter().enumerate().map(step).collect(),
            pauses: Vec::new(),
        }
    })
}

/// Every host starts once, and behind all starts either the server pauses, or clients do, without other faults.
pub(crate) fn pausing_plan() -> impl Strategy<Value = Plan> {
    let pause = (0..12usize, 0..5_000u64, 1..25_000u64, any::<bool>());
    (calm_plan(), any::<bool>(), 1_000..6_000u64, vec(pause, 1..=4)).prop_map(
        |(mut plan, is_of_server, keep_alive, pauses)| {
            plan.keep_alive = keep_alive;
            for step in &mut plan.steps {
                step.at /= 3;
            }
            let pause = |(host, from, length, timers_first)| {
                let host = (!is_of_server).then_some(host % plan.hosts.len());
                let from = 20_000 + from;
                Pause { host, from, to: from + length, timers_first }
            };
            plan.pauses = pauses.into_iter().map(pause).collect();
            plan
        },
    )
}
