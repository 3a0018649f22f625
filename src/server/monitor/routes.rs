//! The paths that the monitor answers. A new page adds a row, and says what its reader must show.

use std::time::Duration;

use super::access::Guard;
use super::message::{Request, Response};
use super::{page, status};
use crate::server::Server;

/// A path, and what answers it.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) guard: Guard,
    /// How old an answer may be that another request has got. A flood of requests costs no more than one in this time.
    pub(super) fresh_for: Duration,
    pub(super) answer: fn(&Server, &Request<'_>) -> Response,
}

const ROUTES: &[Route] =
    &[Route { path: "/status.json", guard: Guard::Token, fresh_for: MOMENT, answer: status::answer }];

/// All paths; without the page, what names clients is not there at all.
pub(super) fn all(has_page: bool) -> impl Iterator<Item = &'static Route> {
    let routes = ROUTES.iter().chain(&page::ROUTES);
    routes.filter(move |route| has_page || route.guard != Guard::Token)
}

/// For figures that change all the time.
const MOMENT: Duration = Duration::from_millis(200);
