//! The queue in front of a path, as a data path uses it.
#![allow(clippy::unwrap_used)]

mod bounds;
mod link;
mod model;
mod packets;
mod rate;
mod signals;
mod simulation;
mod turns;
