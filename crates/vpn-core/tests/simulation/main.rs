//! Many clients against one server over a bad network, in virtual time: the state machines of `exchange` on both ends,
//! with every message as bytes on a simulated wire. A run is one [`Plan`](plan::Plan); proptest draws thousands, shrinks
//! one that finds a fault, and keeps its seed in `regressions.txt`, which is replayed first from then on.
//!
//! `PROPTEST_CASES=100000` runs more, `PROPTEST_RNG_SEED=1` draws the same ones again.

mod fault;
mod hosts;
mod network;
mod plan;
mod seen;
mod server;
mod world;

use plan::{Plan, bad_plan, calm_plan};
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
    fn a_bad_network_breaks_no_promise(plan in bad_plan()) {
        run(&plan)?;
    }
}

proptest! {
    #![proptest_config(cases(500))]

    /// The simulation itself: where nothing goes wrong, everybody is served.
    #[test]
    fn in_a_calm_network_every_start_succeeds(plan in calm_plan()) {
        let world = run(&plan)?;
        prop_assert_eq!(world.starts_up(), plan.hosts.len());
    }
}

/// The runs are worth something: over some hundreds of them everything that matters has happened.
#[test]
fn what_matters_happens() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut seen = seen::Seen::default();
    for _ in 0..400 {
        let plan = bad_plan().new_tree(&mut runner).map(|tree| tree.current()).unwrap();
        match World::run(&plan) {
            Ok(world) => seen.add(&world.seen),
            Err(fault) => panic!("{fault}\n{plan:#?}"),
        }
    }
    let missing = seen.missing();
    assert!(missing.is_empty(), "never happened: {missing:?} in {seen:?}");
}
