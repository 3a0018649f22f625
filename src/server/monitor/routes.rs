//! The paths that the monitor answers. A new page adds a row, and says what its reader must show.

use std::time::Duration;

use super::access::Guard;
use super::message::Route;
use super::{metrics, page, senses, status};
use crate::server::Server;

const ROUTES: &[Route] = &[
    Route { path: "/metrics", guard: Guard::Figures, fresh_for: MOMENT, answer: metrics::answer },
    Route { path: "/status.json", guard: Guard::Token, fresh_for: MOMENT, answer: status::answer },
];

/// What the monitor's thread does once a second.
pub(super) const EVERY_SECOND: &[fn(&Server)] = &[senses::tick];

/// All paths; without the page, what names clients is not there at all.
pub(super) fn all(has_page: bool) -> impl Iterator<Item = &'static Route> {
    let routes = ROUTES.iter().chain(&page::ROUTES);
    routes.filter(move |route| has_page || route.guard != Guard::Token)
}

/// For figures that change all the time.
const MOMENT: Duration = Duration::from_millis(200);
