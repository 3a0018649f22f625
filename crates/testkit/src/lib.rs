//! What the tests and benches share: hosts on a cable, the running program, packet builders, captured logs.
