//! The status page: static files that this program contains, and what a browser must not do with them.

use std::borrow::Cow;
use std::time::Duration;

use super::access::Guard;
use super::message::{Body, Response, Route};
use super::reading;
use crate::server::Server;

/// A file of the page.
#[derive(Debug)]
struct File {
    path: &'static str,
    mime: &'static str,
    body: &'static str,
}

const INDEX: File = File { path: "/", mime: "text/html; charset=utf-8", body: include_str!("page/index.html") };
const STYLE: File = File { path: "/page.css", mime: "text/css; charset=utf-8", body: include_str!("page/page.css") };
const ICON: File = File { path: "/icon.svg", mime: "image/svg+xml", body: include_str!("page/icon.svg") };
const PAGE: File = script("/page.js", include_str!("page/page.js"));
const CHART: File = script("/chart.js", include_str!("page/chart.js"));
const TABLE: File = script("/table.js", include_str!("page/table.js"));
const FORMAT: File = script("/format.js", include_str!("page/format.js"));

const fn script(path: &'static str, body: &'static str) -> File {
    File { path, mime: "text/javascript; charset=utf-8", body }
}

/// The paths of the page. Its files have nothing to hide, but a reader without the token is to see one answer: where it
/// is.
pub(super) const ROUTES: [Route; 8] = [
    route(INDEX.path, |_| INDEX.answer()),
    route(STYLE.path, |_| STYLE.answer()),
    route(ICON.path, |_| ICON.answer()),
    route(PAGE.path, |_| PAGE.answer()),
    route(CHART.path, |_| CHART.answer()),
    route(TABLE.path, |_| TABLE.answer()),
    route(FORMAT.path, |_| FORMAT.answer()),
    route("/history.json", history),
];

const fn route(path: &'static str, answer: fn(&Server) -> Response) -> Route {
    Route { path, guard: Guard::Token, fresh_for: Duration::ZERO, answer }
}

/// The samples of the last hour.
fn history(server: &Server) -> Response {
    let samples = server.monitor.history.lock().json(server.now(), reading(server));
    Response::ok("application/json", samples.to_string())
}

impl File {
    fn answer(&self) -> Response {
        let body = Body::Static(self.body.as_bytes());
        let response = Response { status: 200, mime: Cow::Borrowed(self.mime), fields: Vec::new(), body };
        HEADERS.into_iter().fold(response, |response, (name, value)| response.with(name, value))
    }
}

/// The headers of each file, beside those of every answer. A browser runs no script but the page's, shows it in no frame,
/// asks no other host for anything, and makes no markup of text: names come from peers.
const HEADERS: [(&str, &str); 2] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];

#[cfg(test)]
mod tests {
    use super::super::door;
    use super::*;

    const FILES: [File; 7] = [INDEX, STYLE, ICON, PAGE, CHART, TABLE, FORMAT];

    /// No file needs what the policy forbids, or another host.
    #[test]
    fn the_page_needs_nothing_but_its_files() {
        for File { path, body, .. } in &FILES {
            let links = body.match_indices("://").filter(|(at, _)| {
                !body[..*at].ends_with("http") || {
                    // The names of XML namespaces are no addresses.
                    !body[at - 4..].starts_with("http://www.w3.org/2000/svg")
                }
            });
            assert_eq!(links.count(), 0, "{path}");
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick="]
            {
                assert!(!body.contains(forbidden), "{path}: {forbidden}");
            }
        }
        let named =
            |file: &File| file.path == door::PAGE || FILES.iter().any(|other| other.body.contains(&file.path[1..]));
        assert!(FILES.iter().all(named), "every file is used");
    }

    #[test]
    fn every_import_is_there() {
        for File { path, body, .. } in FILES.iter().filter(|file| file.path.ends_with(".js")) {
            for (_, rest) in body.match_indices("from \"./").map(|(at, text)| body.split_at(at + text.len())) {
                let (name, _) = rest.split_once('"').expect("a closing quote");
                assert!(FILES.iter().any(|file| file.path[1..] == *name), "{path} imports {name}");
            }
        }
    }
}
