//! The status page: static files that this program contains, and what a browser must not do with them.

/// A file of the page.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) mime: &'static str,
    pub(super) body: &'static str,
}

macro_rules! file {
    ($path:literal, $file:literal, $mime:literal) => {
        File { path: $path, mime: $mime, body: include_str!(concat!("page/", $file)) }
    };
}

/// The files of the page.
pub(super) const FILES: [File; 7] = [
    file!("/", "index.html", "text/html; charset=utf-8"),
    file!("/page.css", "page.css", "text/css; charset=utf-8"),
    file!("/page.js", "page.js", "text/javascript; charset=utf-8"),
    file!("/chart.js", "chart.js", "text/javascript; charset=utf-8"),
    file!("/table.js", "table.js", "text/javascript; charset=utf-8"),
    file!("/format.js", "format.js", "text/javascript; charset=utf-8"),
    file!("/icon.svg", "icon.svg", "image/svg+xml"),
];

/// The headers of each answer. A browser runs no script but the page's, shows it in no frame, asks no other host for
/// anything, keeps nothing, and makes no markup of text: names come from peers.
pub(super) const HEADERS: [(&str, &str); 6] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// No file needs what the policy forbids, or another host.
    #[test]
    fn the_page_needs_nothing_but_its_files() {
        for File { path, body, .. } in &FILES {
            let links = body.match_indices("://").filter(|(at, _)| !body[..*at].ends_with("http") || {
                // The names of XML namespaces are no addresses.
                !body[at - 4..].starts_with("http://www.w3.org/2000/svg")
            });
            assert_eq!(links.count(), 0, "{path}");
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick="] {
                assert!(!body.contains(forbidden), "{path}: {forbidden}");
            }
        }
        let named = |file: &File| file.path == "/" || FILES.iter().any(|other| other.body.contains(&file.path[1..]));
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
