//! A real server and a real client, seen in a real browser: what the page says is what /status.json says.

use rustix::process::Signal;
use serde_json::Value;
use testkit::browser::Browser;
use testkit::hosts::{Host, Hosts};
use testkit::http::get;
use testkit::inner::{Ip, Sum};
use testkit::netns::in_namespace;
use testkit::program::{Running, code, send, stdout};
use testkit::sockets::{echo, raw_sender, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};
use testkit::{eventually, skip};

use crate::fixture::picture;
use crate::{PROGRAM, at, token, url};

#[test]
fn the_page_shows_what_the_server_knows() {
    let test = "browser::the_page_shows_what_the_server_knows";
    in_namespace(test, || {
        let hosts = Hosts::new(PROGRAM);
        let browser = match Browser::start(hosts.path()) {
            Ok(browser) => browser,
            Err(why) => return skip(test, &why),
        };
        let server = sell(&hosts);
        let url = url(&hosts);
        let status = || -> Value {
            let bearer = format!("Authorization: Bearer {}\r\n", token(&url));
            serde_json::from_str(&get(at(), "/status.json", &bearer).body).unwrap()
        };

        browser.open("http://127.0.0.1:8078/");
        assert!(browser.text("body").contains("cellframe-vpn stat --url"), "{}", browser.text("body"));
        browser.console();
        browser.open(&url);
        assert_eq!(browser.url(), "http://127.0.0.1:8078/", "the token leaves the address");
        eventually("an empty server", || browser.text("#sessions-shown") == "No client is connected.");
        assert_eq!(browser.text("#sessions-now"), "0");
        picture(&browser, "empty");

        let client = Client::connect(&hosts, 0, "client", &["--wallet", "purse", "--value", "1"]);
        for _ in 0..20 {
            echo(&udp(GATEWAY), &udp_at(hosts.at(0), client.address), &[7; 972]);
        }
        spoof(hosts.at(0));
        eventually("the session", || browser.text("#session-table tbody tr td") == client.address.to_string());
        assert!(browser.run("return document.title").as_str().unwrap().ends_with("1 session – Cellframe VPN"));
        eventually("the spoofed packets", || shows_drop(&browser, "spoofed_source"));
        // Both are of the same moment only once nothing passes any more.
        let figures = || {
            let known = status();
            let exact = |bytes: &Value| format!("{} bytes", spaced(bytes.as_u64().unwrap()));
            let title = |selector: &str| browser.run(&format!("return document.querySelector('{selector}').title"));
            let session = &known["sessions"]["list"][0];
            let total = |side: &str| {
                let shown = title(&format!("#total-{side}"));
                let expected = &known["traffic"][side];
                shown.as_str().unwrap().starts_with(&format!("{},", exact(&expected["bytes"])))
            };
            let cell = |label: &str| title(&format!("#session-table td[data-label={label}]"));
            total("up")
                && total("down")
                && cell("Up") == exact(&session["up"]["bytes"])
                && cell("Down") == exact(&session["down"]["bytes"])
                && browser.text("#leases-free") == spaced(known["leases"]["free"].as_u64().unwrap())
        };
        eventually(
            std::fmt::from_fn(|f| write!(f, "the same figures: {:#}\n{}", status(), browser.text("main"))),
            figures,
        );
        let known = status();
        let drops = known["drops"].as_array().unwrap();
        let spoofed = drops.iter().find(|drop| drop["cause"] == "spoofed_source").unwrap();
        assert_eq!(spoofed["packets"], 3, "{known:#}");
        for part in [&spoofed["what"], &spoofed["advice"]] {
            assert!(browser.text("#drops").contains(part.as_str().unwrap()), "{}", browser.text("#drops"));
        }
        assert!(browser.text("#about").contains(known["service"]["version"].as_str().unwrap()));
        shows_payment(&browser, &known);
        eventually("the chart has a line", || {
            browser.run("return document.querySelector('.line.up') !== null") == true
        });
        picture(&browser, "busy");

        let asked = browser.requests();
        assert!(
            asked.iter().any(|url| url.ends_with("/status.json")) && asked.iter().any(|url| url.ends_with("/chart.js"))
        );
        for url in &asked {
            assert!(
                url.starts_with("http://127.0.0.1:8078/") || url.starts_with("chrome"),
                "another host is asked: {url}"
            );
        }
        let mut said = browser.console();
        // For the refusal, a text, the browser asks for an icon by itself; the page names its own.
        said.retain(|line| !line.contains("/favicon.ico"));
        assert!(said.is_empty(), "no fault, and nothing that the policy refuses: {said:#?}");

        end_and_return(&hosts, &browser, server);
    });
}

/// Starts a server that sells, and gives the client a wallet with money.
fn sell(hosts: &Hosts) -> Running {
    let config = hosts.config(&format!("{NETWORK}net=backbone\nprices=[1 h for 0.5 CELL]\n"));
    let mut server = hosts.start_server("server", &["--config", &config]);
    server.wait_for("ready: ");
    let address = hosts.near(&["wallet", "new", "purse", "--state-dir", &hosts.state("client")]);
    let address = stdout(&address).trim().to_owned();
    let fund =
        hosts.near(&["wallet", "fund", &address, "10", "--config", &config, "--state-dir", &hosts.state("server")]);
    assert_eq!(code(&fund), 0, "{fund:?}");
    server
}

/// The client has bought an hour: the page tells it of the session, and of what was earned and by whom.
fn shows_payment(browser: &Browser, known: &Value) {
    let session = &known["sessions"]["list"][0];
    let cell = |label: &str| browser.text(&format!("#session-table td[data-label={label}]"));
    assert_eq!((&session["service"], &*cell("Service")), (&"paid".into(), "paid"), "{known:#}");
    assert!(cell("Left").starts_with("59 min ") || cell("Left") == "1 h 0 min", "{}", cell("Left"));
    let client = session["client"].as_str().unwrap();
    assert_eq!(cell("Client"), client);
    let rows = || {
        let rows = browser.run("return [...document.querySelectorAll('#earned tbody tr')].map(it => it.innerText)");
        rows.as_array().unwrap().iter().map(|row| row.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected = ["CELL (backbone)\t0.5\t0.5".to_owned(), format!("{client}\t0.5\t0.5")];
    eventually(std::fmt::from_fn(|f| write!(f, "what was earned: {:?}", rows())), || rows() == expected);
}

/// Stops the server under the open page, and starts it again.
fn end_and_return(hosts: &Hosts, browser: &Browser, mut server: Running) {
    send(&server.child, Signal::TERM);
    assert_eq!(server.exit_code(), Some(0), "an open page keeps no server");
    eventually("the page says so", || browser.text("#gone").starts_with("The server does not answer"));
    assert_eq!(browser.run("return document.querySelector('#gone').getAttribute('role')"), "alert");
    picture(browser, "gone");
    let (_server, _) = hosts.server("server");
    eventually("the page goes on", || browser.text("#gone").is_empty() && browser.text("#about").contains("up "));
}

/// Whether the table of drops has a row for this cause.
fn shows_drop(browser: &Browser, cause: &str) -> bool {
    browser.run(&format!("return document.querySelector('#drops td[title={cause}]') !== null")) == true
}

/// Sends three packets from an address that is not the client's.
fn spoof(host: &Host) {
    let raw = host.run(raw_sender);
    for port in 1..=3 {
        let packet = Ip::new([192, 0, 2, 1].into(), GATEWAY).udp((9, port), b"spoofed", Sum::Zero);
        raw.send_to(&packet, (GATEWAY, 0)).unwrap();
    }
}

/// 1234567 as "1 234 567".
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}
