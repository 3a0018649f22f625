//! Many clients against one server over a bad network, in virtual time: the state machines of `exchange` on both ends,
//! with every message as bytes on a simulated wire. A run is one [`Plan`](plan::Plan); proptest draws thousands of
//! plans, shrinks one that violates an invariant, and keeps its seed in `regressions.txt`, which later runs replay
//! first.
//!
//! `PROPTEST_CASES=100000` runs more plans, `PROPTEST_RNG_SEED=1` draws the same plans again.

mod coverage;
mod fault;
mod hosts;
mod network;
mod plan;
mod server;
mod world;

use plan::{Plan, bad_plan, calm_plan, pausing_plan};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError};
use world::World;

fn cases(cases: u32) -> Config {
    let config = Config::default();
    Config {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { cases },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/simulation/regressions.txt"))),
        ..config
    }
}

fn run(plan: &Plan) -> Result<World, TestCaseError> {
    World::run(plan).map_err(|fault| TestCaseError::fail(fault.to_string()))
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn a_bad_network_violates_no_invariant(plan in bad_plan()) {
        run(&plan)?;
    }
}

proptest! {
    #![proptest_config(cases(500))]

    /// Checks the simulation itself: without faults every client is served.
    #[test]
    fn in_a_calm_network_every_start_succeeds(plan in calm_plan()) {
        let world = run(&plan)?;
        prop_assert_eq!(world.starts_up(), plan.hosts.len());
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    /// A process that did not run for a while has not been refused an answer: it reads and asks before it gives a peer up.
    /// The peers may give it up meanwhile. In a pause shorter than anybody's patience nobody does.
    #[test]
    fn who_pauses_gives_nobody_up(plan in pausing_plan()) {
        let world = run(&plan)?;
        prop_assert_eq!(world.starts_up(), plan.hosts.len());
        match plan.pauses.iter().any(|pause| pause.host.is_none()) {
            true => prop_assert_eq!(world.coverage.closed_silent, 0, "the server gave clients up"),
            false => prop_assert!(!world.has_silent_server(), "a client gave the server up"),
        }
        let last = plan.pauses.iter().map(|pause| pause.to).max();
        let first = plan.pauses.iter().map(|pause| pause.from).min();
        let length = last.zip(first).map_or(0, |(last, first)| last - first);
        if length < 1_000 {
            prop_assert_eq!(world.coverage.lost, 0);
        }
    }
}

/// Checks the coverage: some hundreds of runs together must include every outcome that matters.
#[test]
fn the_plans_cover_every_outcome() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut coverage = coverage::Coverage::default();
    for _ in 0..400 {
        let plan = bad_plan().new_tree(&mut runner).map(|tree| tree.current()).unwrap();
        match World::run(&plan) {
            Ok(world) => coverage.add(&world.coverage),
            Err(fault) => panic!("{fault}\n{plan:#?}"),
        }
    }
    let missing = coverage.missing();
    assert!(missing.is_empty(), "never happened: {missing:?} in {coverage:?}");
}
