//! What a busy or hostile server would say, shown by the page of a real one: the browser gets these answers instead.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::browser::Browser;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::{eventually, skip};

use crate::{PROGRAM, url};

/// Names that would be markup or script, were they not taken as text.
const HOSTILE: [&str; 3] = [
    "<img src=x onerror=\"document.title='taken'\">",
    "<script>document.title='taken'</script>",
    "\u{202e}0x12\"'>&amp;",
];

/// Writes a picture of the whole page where VPN_PAGE_PICTURES says, for people.
pub(crate) fn picture(browser: &Browser, name: &str) {
    let Some(directory) = std::env::var_os("VPN_PAGE_PICTURES") else { return };
    let text = Path::new(&directory).join(format!("{name}.base64"));
    std::fs::write(&text, browser.picture()).unwrap();
    let bytes = Command::new("base64").arg("--decode").arg(&text).output().unwrap();
    std::fs::write(text.with_extension("png"), bytes.stdout).unwrap();
    std::fs::remove_file(text).unwrap();
}

/// A server with this many sessions, of which 100 are told.
fn busy(sessions: u64) -> Value {
    let side = |number: u64, most: u64| json!({"bytes": number * most, "packets": number, "bytes_per_second": number * most / 900});
    let session = |number: u64| {
        let kind = ["free", "paid", "grace"][number as usize % 3];
        // No order: the page sorts.
        let size = (number * 37) % 101;
        json!({
            "address": format!("10.98.{}.{}", number / 250, number % 250 + 2),
            "client": if number.is_multiple_of(4) { Value::Null } else { format!("0x{:08X}…", number * 40_503_041).into() },
            "net": "backbone",
            "service": kind,
            "seconds": size * 97,
            "up": side(size, 1_310_720),
            "down": side(size, 30_408_704),
            "round_trip_ms": if number.is_multiple_of(5) { Value::Null } else { json!(4.5 + size as f64) },
            "queued_bytes": size * 700,
            "unit": if kind == "paid" { "B" } else { "" },
            "left": if kind == "paid" { json!(size * 90_000_000) } else { Value::Null },
        })
    };
    let told = sessions.min(100);
    let clients: Vec<_> =
        (1..=3).map(|number| json!({"client": format!("0x{:08X}…", number * 50_503_041_u64), "signed": "12.5", "settled": "12.0"})).collect();
    json!({
        "layout": 1,
        "time": 1_700_000_000,
        "service": {
            "version": "0.1.0", "started": 1_699_900_000, "uptime_seconds": 100_000, "device": "tun0",
            "network": "10.98.0.0/16", "gateway": "10.98.0.1", "mtu": 1390, "workers": 2,
        },
        "health": {"level": "warning", "findings": [{
            "level": "warning",
            "what": "IPv4 forwarding is off on this host: clients reach it, and nothing behind it.",
            "remedy": "Run `sysctl -w net.ipv4.ip_forward=1`, or set [srv_vpn] nat=auto.",
        }]},
        "sessions": {
            "now": {"free": sessions.div_ceil(3), "grace": sessions / 3, "paid": sessions - sessions.div_ceil(3) - sessions / 3},
            "opened": sessions * 3, "refused": {}, "list": (0..told).map(session).collect::<Vec<_>>(), "left_out": sessions - told,
        },
        "traffic": {"up": side(sessions, 18_000_000), "down": side(sessions, 310_000_000)},
        "drops": [
            {"cause": "codel", "packets": 15_234, "what": "waited too long behind packets of its own flow",
             "advice": "Normal on a slow path: it tells the sender to slow down, and so keeps the delay short."},
            {"cause": "spoofed_source", "packets": 3, "what": "the source is not the sender's leased address", "advice": "Odd routes."},
        ],
        "latency": {
            "round_trip_ms": {"p50": 23.2, "p90": 81.0, "max": 230.0}, "queue_ms": {"p50": 0.3, "p90": 2.0, "max": 9.0},
        },
        "leases": {"total": 65_533, "free": 65_533 - sessions - 4, "leased": sessions, "kept": 4, "static": 0},
        "earnings": [{
            "token": "CELL", "net": "backbone", "signed": "37.5", "settled": "36.0", "sessions": 40, "clients": clients, "left_out": 7,
        }],
        "workers": [],
    })
}

/// An hour with two waves.
fn hour() -> Value {
    let sample = |number: u32| {
        let wave = |length: f64, high: f64| ((f64::from(number) / length).sin() + 1.0) * high;
        json!([(359 - number) * 10, wave(20.0, 2e5) as u64, wave(33.0, 6e6) as u64, 7, f64::from(number % 5), 21.5])
    };
    json!({"step": 10, "samples": (0..360).map(sample).collect::<Vec<_>>()})
}

/// Has the open page get these answers from now on, and waits until it shows them.
fn feed(browser: &Browser, status: &Value) {
    let script = format!(
        "const answers = {{'status.json': {status}, 'history.json': {}}}; window.fetch = async (path) => \
         new Response(JSON.stringify(answers[path] ?? answers['status.json'])); window.fed = answers;",
        hour()
    );
    browser.run(&script);
    let sessions = status["sessions"]["opened"].as_u64().unwrap();
    let shown = || browser.text("#sessions-note").replace('\u{202f}', "");
    eventually(std::fmt::from_fn(|f| write!(f, "{}", shown())), || shown().contains(&format!("{sessions} since")));
}

fn column(browser: &Browser, label: &str) -> Vec<String> {
    let script = format!(
        "return [...document.querySelectorAll('#session-table td[data-label=\"{label}\"]')].map(it => it.innerText)"
    );
    browser.run(&script).as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_busy_page_is_quick_and_fits_a_phone_and_takes_names_as_text() {
    let test = "fixture::a_busy_page_is_quick_and_fits_a_phone_and_takes_names_as_text";
    in_namespace(test, || {
        let hosts = Hosts::new(PROGRAM);
        let browser = match Browser::start(hosts.path()) {
            Ok(browser) => browser,
            Err(why) => return skip(test, &why),
        };
        let _server = hosts.server("server");
        browser.open(&url(&hosts));
        browser.screen(1200, 900, false);
        feed(&browser, &busy(10_000));
        sorts(&browser);
        fits(&browser);
        is_told_by_the_keyboard(&browser);
        takes_names_as_text(&browser);
        let said = browser.console();
        assert!(said.is_empty(), "no fault, and nothing that the policy refuses: {said:#?}");
        tells_what_is_wrong(&browser);
        names_the_commands_of_a_node(&browser);
    });
}

/// A node's operator has no program `cellframe-vpn`.
fn names_the_commands_of_a_node(browser: &Browser) {
    let mut status = busy(10_000);
    status["service"]["sdk"] = "node".into();
    feed(browser, &status);
    let bounded = browser.text("#sessions-shown").replace('\u{202f}', "");
    assert_eq!(bounded, "The 100 with the most traffic of 10000; cellframe-node-cli vpn_stat prints all.");
    browser.run("window.fetch = async () => new Response('', {status: 403})");
    eventually("the node's command", || {
        browser.text("#gone").contains("run cellframe-node-cli vpn_stat -url on the server")
    });
}

fn sorts(browser: &Browser) {
    let bounded = browser.text("#sessions-shown").replace('\u{202f}', "");
    assert_eq!(bounded, "The 100 with the most traffic of 10000; cellframe-vpn stat prints all.");
    assert_eq!(column(browser, "Address").len(), 100);
    let click = |label: &str| {
        let script =
            "[...document.querySelectorAll('#session-table th button')].find(it => it.innerText === arguments)";
        browser.run(&format!("{}.click()", script.replace("arguments", &json!(label).to_string())));
    };
    let sorted =
        || browser.run("return document.querySelector('#session-table th[aria-sort]').getAttribute('aria-sort')");
    click("Address");
    let addresses = column(browser, "Address");
    assert_eq!(
        (sorted(), &*addresses[0], &*addresses[9]),
        ("ascending".into(), "10.98.0.2", "10.98.0.11"),
        "as numbers"
    );
    click("Address");
    assert_eq!((sorted(), &*column(browser, "Address")[0]), ("descending".into(), "10.98.0.101"));
    click("Round trip");
    let trips = column(browser, "Round trip");
    assert_eq!((sorted(), &*trips[99]), ("descending".into(), "–"), "what is not known comes last: {trips:?}");
    let script = "const begin = performance.now(); document.querySelector('#session-table th button').click(); \
                  document.body.offsetHeight; return performance.now() - begin";
    let time = browser.run(script).as_f64().unwrap();
    assert!(time < 250.0, "a page with all its rows is drawn in {time} ms");
    click("Down now");
}

/// On a desktop and on a phone, light and dark, nothing is wider than the screen.
fn fits(browser: &Browser) {
    for (width, height, is_dark, name) in [
        (1000, 700, false, "narrow"),
        (700, 900, true, "tablet"),
        (1200, 900, false, "desktop"),
        (1200, 900, true, "desktop-dark"),
        (360, 740, false, "phone"),
        (360, 740, true, "phone-dark"),
    ] {
        browser.screen(width, height, is_dark);
        // With all that can be opened, but not on the picture.
        browser.run("document.querySelector('details').open = true");
        let wide = "return document.documentElement.scrollWidth";
        assert_eq!(browser.run(wide), width, "{name}");
        let spills = "return [...document.querySelectorAll('main *')].filter(it => it.getBoundingClientRect().right > innerWidth) \
                      .map(it => it.outerHTML.slice(0, 90))";
        assert_eq!(browser.run(spills), json!([]), "{name}");
        let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
        assert_eq!(ground, if is_dark { "rgb(14, 18, 23)" } else { "rgb(244, 246, 248)" }, "{name}");
        assert_eq!(browser.run(CONTRASTS), json!([]), "contrast of text is AA: {name}");
        browser.run("document.querySelector('details').open = false");
        picture(browser, name);
    }
    browser.screen(1200, 900, false);
}

/// Texts whose contrast with their ground is below 4.5 (WCAG 2.1, 1.4.3).
const CONTRASTS: &str = "
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((it) => it / 255)
        .map((it) => it <= 0.03928 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4)
        .reduce((sum, it, at) => sum + it * [0.2126, 0.7152, 0.0722][at], 0);
    const ground = (it) => {
        for (; it; it = it.parentElement) {
            const color = numbers(getComputedStyle(it).backgroundColor);
            if (color.length === 3 || color[3] > 0) return color;
        }
    };
    const texts = [...document.querySelectorAll('body *')].filter((it) => it.checkVisibility() &&
        [...it.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== ''));
    return texts.map((it) => {
        const style = getComputedStyle(it);
        const [a, b] = [light(numbers(it.closest('svg') ? style.fill : style.color)), light(ground(it))].sort((x, y) => y - x);
        return [(a + 0.05) / (b + 0.05), it.textContent.trim().slice(0, 40)];
    }).filter(([contrast]) => contrast < 4.5);";

/// The arrow keys move along the chart, and say what is there.
fn is_told_by_the_keyboard(browser: &Browser) {
    eventually("the chart", || browser.run("return document.querySelector('.line.up') !== null") == true);
    let key = |name: &str| {
        let event = format!("new KeyboardEvent('keydown', {{key: '{name}', bubbles: true}})");
        browser.run(&format!("const it = document.querySelector('#chart'); it.focus(); it.dispatchEvent({event})"));
        browser.text("#chart-point")
    };
    let (last, before) = (key("End"), key("ArrowLeft"));
    assert!(last.contains("to clients") && last.contains("7 sessions") && last.contains("round trip 22 ms"), "{last}");
    assert!(before != last && before.contains("from clients"), "{before}");
    let rows = browser.run("return document.querySelectorAll('#history tbody tr').length");
    assert_eq!(rows, 60, "the same as a table, a row a minute");
}

fn takes_names_as_text(browser: &Browser) {
    let mut status = busy(4);
    for (number, name) in HOSTILE.iter().enumerate() {
        let session = &mut status["sessions"]["list"][number];
        for key in ["client", "net", "service", "address"] {
            session[key] = (*name).into();
        }
        status["drops"][number % 2]["what"] = (*name).into();
        status["drops"][number % 2]["advice"] = (*name).into();
        status["earnings"][0]["clients"][number]["client"] = (*name).into();
        status["health"]["findings"][0]["what"] = (*name).into();
        status["service"]["device"] = (*name).into();
    }
    status["earnings"][0]["token"] = HOSTILE[1].into();
    feed(browser, &status);
    for name in HOSTILE {
        assert!(column(browser, "Client").iter().any(|shown| shown == name), "{name}");
        assert!(browser.text("#earned").contains(name), "{}", browser.text("#earned"));
    }
    assert!(browser.text("#earned").contains(HOSTILE[1]));
    assert_eq!(browser.run("return document.querySelectorAll('main img, main script, header img').length"), 0);
    assert_ne!(browser.run("return document.title"), "taken");
}

/// What the page cannot show it does not pass over.
fn tells_what_is_wrong(browser: &Browser) {
    for (answer, said) in [
        ("async () => new Response('{}')", "This page does not understand the server's answer"),
        ("async () => new Response('', {status: 403})", "run cellframe-vpn stat --url on the server"),
        ("async () => new Response('', {status: 500})", "The server does not answer"),
        ("() => Promise.reject(new TypeError())", "The server does not answer"),
    ] {
        browser.run(&format!("window.fetch = {answer}"));
        eventually(std::fmt::from_fn(|f| write!(f, "{said}: {}", browser.text("#gone"))), || {
            browser.text("#gone").contains(said)
        });
        assert_eq!(browser.text("#health-title"), "Not known at the moment");
    }
}
