//! Who gets the page: whoever has the token, and nobody else.

use testkit::hosts::Hosts;
use testkit::http::{Reply, get};
use testkit::netns::in_namespace;
use testkit::program::{code, stderr, stdout};
use testkit::tunnel::NETWORK;

use crate::{PROGRAM, at, token, url};

/// What only the operator may see.
const PATHS: [&str; 9] = [
    "/",
    "/page.js",
    "/page.css",
    "/chart.js",
    "/table.js",
    "/format.js",
    "/icon.svg",
    "/status.json",
    "/history.json",
];

#[track_caller]
fn is_refused(reply: &Reply) {
    assert_eq!((reply.status, reply.header("set-cookie")), (403, ""), "{reply:?}");
    assert!(reply.body.contains("cellframe-vpn stat --url"), "it says where the token is: {reply:?}");
}

#[test]
fn the_page_is_for_whoever_has_the_token() {
    in_namespace("token::the_page_is_for_whoever_has_the_token", || {
        let hosts = Hosts::new(PROGRAM);
        let (server, _) = hosts.server("server");
        let url = url(&hosts);
        let token = token(&url).to_owned();
        assert!(!server.log().contains(&token), "the log is not as secret as the page: {}", server.log());
        let wrong = format!("{}{}", &token[1..], if token.starts_with('0') { '1' } else { '0' });
        for path in PATHS {
            is_refused(&get(at(), path, ""));
            is_refused(&get(at(), &format!("{path}?token={wrong}"), ""));
            is_refused(&get(at(), path, &format!("Cookie: cellframe_vpn_token_8078={wrong}\r\n")));
            is_refused(&get(at(), path, &format!("Authorization: Bearer {wrong}\r\n")));
        }

        let reply = get(at(), &format!("/?token={token}"), "");
        assert_eq!((reply.status, reply.header("location")), (303, "/"), "{reply:?}");
        assert!(!reply.body.contains(&token), "{reply:?}");
        let cookie = reply.header("set-cookie");
        assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
        let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
        for path in PATHS {
            let reply = get(at(), path, &cookie);
            assert_eq!(reply.status, 200, "{path}: {reply:?}");
            for (name, value) in [
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
            ] {
                assert_eq!(reply.header(name), value, "{path}");
            }
            // The policy that matters is the document's.
            let policy = reply.header("content-security-policy");
            assert!(path != "/" || policy.starts_with("default-src 'none'; script-src 'self'; style-src"), "{policy}");
            assert!(
                path != "/" || policy.contains("frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
                "{policy}"
            );
        }
        is_refused(&get(at(), &format!("/?token={wrong}"), &cookie));
        let bearer = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(get(at(), "/status.json", &bearer).status, 200);
        let foreign = format!("{cookie}Sec-Fetch-Site: cross-site\r\n");
        assert_eq!(get(at(), "/status.json", &foreign).status, 403, "another site's page asks");

        drop(server);
        let (_server, _) = hosts.server("server");
        assert_eq!(get(at(), "/", &cookie).status, 200, "the token outlasts the process");

        let renewed = hosts.near(&["stat", "--url", "--renew", "--state-dir", &hosts.state("server")]);
        let renewed = stdout(&renewed).trim().to_owned();
        assert_ne!(renewed, url);
        assert_eq!(crate::url(&hosts), renewed, "it is the one from now on");
        is_refused(&get(at(), "/", &cookie));
        is_refused(&get(at(), "/status.json", &bearer));
        assert_eq!(get(at(), renewed.strip_prefix("http://127.0.0.1:8078").unwrap(), "").status, 303);
    });
}

#[test]
fn the_page_can_be_switched_off_alone() {
    in_namespace("token::the_page_can_be_switched_off_alone", || {
        let hosts = Hosts::new(PROGRAM);
        let config = |keys: &str| hosts.config(&format!("{NETWORK}{keys}"));
        let refused = |why: &str| {
            let output = hosts.near(&["stat", "--url", "--state-dir", &hosts.state("server")]);
            assert_eq!(code(&output), 1, "{output:?}");
            assert!(stderr(&output).contains(why), "{output:?}");
        };
        let (server, _) = hosts.server_with("server", &["--config", &config("status_page=false\n")]);
        let reply = get(at(), "/", "");
        assert_eq!((reply.status, get(at(), "/status.json", "").status), (404, 404), "{reply:?}");
        refused("there is no status page: [srv_vpn] status_page = false; expected true");
        drop(server);

        let (server, _) = hosts.server_with("server", &["--config", &config("monitor=off\n")]);
        assert!(std::net::TcpStream::connect(at()).is_err(), "nothing listens");
        refused("[srv_vpn] monitor = off");
        drop(server);

        let _taken = std::net::TcpListener::bind(at()).unwrap();
        let (server, _) = hosts.server_with("server", &["--config", &config("")]);
        refused("the monitor did not start, and the log says why");
        assert!(server.log().contains("cannot listen on 127.0.0.1:8078"), "{}", server.log());
    });
}
