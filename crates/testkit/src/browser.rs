//! A headless Chromium, driven by chromedriver over WebDriver (W3C), which is HTTP with JSON.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::http;
use crate::program::Running;

/// What a start of Chromium may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one window. Dropping it ends the browser.
#[derive(Debug)]
pub struct Browser {
    driver: Running,
    at: SocketAddr,
    session: String,
}

impl Browser {
    /// Starts a browser on the calling thread's host, with its files in `directory`; or says what is not installed. The
    /// host's loopback link must be up.
    pub fn start(directory: &Path) -> Result<Browser, String> {
        for program in ["chromedriver", "chromium"] {
            let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.map_err(|error| format!("{program} cannot be run ({error}): apt-get install chromium-driver"))?;
        }
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", directory).env("TMPDIR", directory).stdin(Stdio::null());
        // A group of its own: the end of the driver alone would leave the browser.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut driver = Running::start(directory, "chromedriver", command, |mut command| command.spawn().unwrap());
        let started = "started successfully on port ";
        driver.wait_for(started);
        let said = driver.stdout();
        let (_, port) = said.split_once(started).unwrap();
        let port: u16 = port.split('.').next().unwrap().trim().parse().unwrap();
        let mut browser = Browser { driver, at: SocketAddr::from(([127, 0, 0, 1], port)), session: String::new() };
        // As root it runs without its sandbox. The rest keeps it from asking its maker's servers for anything.
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "goog:chromeOptions": {"args": arguments},
        }}});
        let session = browser.call("POST", "/session", &wanted)["sessionId"].as_str().unwrap().to_owned();
        browser.session = format!("/session/{session}");
        Ok(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let target = format!("{}{path}", self.session);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = http::request(self.at, method, &target, "Content-Type: application/json\r\n", &body, PATIENCE);
        let mut value: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(reply.status, 200, "{target}: {value:#}");
        value["value"].take()
    }

    /// Opens an address and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({"url": url}));
    }

    /// Returns the address that is open.
    pub fn url(&self) -> String {
        self.call("GET", "/url", &Value::Null).as_str().unwrap().to_owned()
    }

    /// Runs a function's body in the page, and returns its result. The page's policy does not apply to it.
    pub fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Returns the visible text of the first element that a CSS selector finds; empty if it is hidden or there is none.
    pub fn text(&self, selector: &str) -> String {
        // The innerText of what is hidden would be its source.
        let found = format!("const it = document.querySelector({});", json!(selector));
        let script = format!("{found} return it?.checkVisibility() ? it.innerText : ''");
        self.run(&script).as_str().unwrap().to_owned()
    }

    /// Sends a command of Chromium's own protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.call("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Makes the window as large as a screen, in CSS pixels, light or dark.
    pub fn screen(&self, width: u32, height: u32, is_dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!({"name": "prefers-color-scheme", "value": if is_dark { "dark" } else { "light" }});
        self.devtools("Emulation.setEmulatedMedia", json!({"features": [scheme]}));
    }

    /// Returns the whole page as a PNG file in base64.
    pub fn picture(&self) -> String {
        let parameters = json!({"captureBeyondViewport": true, "format": "png"});
        self.devtools("Page.captureScreenshot", parameters)["data"].as_str().unwrap().to_owned()
    }

    /// Returns what the console has had since the last call: faults of scripts, refusals by a policy, failed requests.
    pub fn console(&self) -> Vec<String> {
        self.log("browser").iter().map(Value::to_string).collect()
    }

    /// Returns the addresses that the browser has asked for since the last call.
    pub fn requests(&self) -> Vec<String> {
        let entries = self.log("performance");
        let events =
            entries.iter().map(|entry| -> Value { serde_json::from_str(entry["message"].as_str().unwrap()).unwrap() });
        let sent = events.filter(|event| event["message"]["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["message"]["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.call("POST", "/se/log", &json!({"type": kind})).as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", "", &Value::Null);
        }
        let _ = kill_process_group(Pid::from_child(&self.driver.child), Signal::KILL);
    }
}
