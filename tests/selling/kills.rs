//! The server is killed at any moment, again and again: what the client has paid is what was served and what is left,
//! but for a receipt's units for each kill, to either side.
//!
//! Server and client are processes of their own in the test's namespace: this binary, run for one of the two tests that
//! are ignored otherwise.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::{app, sdk};
use embedded::config::{self, Config};
use embedded::ledger::{self, Hash, Transaction};
use embedded::prices;
use embedded::receipt::Key;
use host::lab::set_loopback_up;
use testkit::netns::in_namespace;
use testkit::sockets::large_buffer;
use testkit::{Noise, TEST_TIMEOUT, eventually};
use vpn_core::money::Amount;
use vpn_core::wire::unit;

use crate::client::PayingClient;
use crate::customer::limits;
use crate::server::{GATEWAY, NET};

const PORT: u16 = 8079;
/// The bytes of one receipt, and of one packet.
const UNITS: i64 = 100_000;
const PACKET: i64 = 1000;
const PRICE: u128 = Amount::TOKEN.0 / 4;
const MONEY: u128 = 10_000 * PRICE;
const KILLS: i64 = 8;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hash(hex: &str) -> Hash {
    bytes(hex).try_into().unwrap()
}

/// Starts this binary for one of the tests that are parts of this one.
fn part(name: &str, arguments: &[(&str, String)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--ignored", "--nocapture"]).envs(arguments.iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The server's process.
struct Host {
    child: Child,
    answers: BufReader<ChildStdout>,
    order: String,
    /// At the server's inner address, which ends with it.
    socket: UdpSocket,
}

impl Host {
    fn start(state: &Path) -> Host {
        let mut child = part("kills::as_the_server", &[("STATE", state.display().to_string())]).spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let order = answer(&mut answers);
        let socket = UdpSocket::bind((GATEWAY, 0)).unwrap();
        large_buffer(&socket);
        socket.set_nonblocking(true).unwrap();
        Host { child, answers, order, socket }
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{question}").unwrap();
        answer(&mut self.answers)
    }

    /// Kills the process, and returns the bytes that it has served.
    fn kill(mut self) -> i64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let packets = std::iter::from_fn(|| self.socket.recv(&mut [0; 2000]).ok());
        packets.map(|size| size as i64 + 28).sum()
    }
}

/// The next line that the server's part has written, not the test's harness.
fn answer(lines: &mut BufReader<ChildStdout>) -> String {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0 && Instant::now() < deadline, "the server has ended");
        if let Some((_, answer)) = line.trim_end().split_once("> ") {
            return answer.to_owned();
        }
    }
}

#[test]
#[ignore = "a part of another test"]
fn as_the_server() {
    sdk::start_logging();
    let state = std::env::var("STATE").unwrap();
    let text = format!(
        "[general]\nstate_dir={state}\n[resources]\nthreads_cnt=2\n[cli-server]\nenabled=false\n\
         [server]\nlisten_address=[127.0.0.1:{PORT}]\n\
         [srv_vpn]\nnet=backbone\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\n\
         prices=[{UNITS} B for {} CELL]\n",
        Amount(PRICE)
    );
    config::set_current(Config::parse(&text, "test").0);
    app::server_start().unwrap();
    println!("> {}", hex(&prices::read(&config::current()).unwrap()[0].hash));
    for question in std::io::stdin().lines() {
        let question = question.unwrap();
        let words: Vec<&str> = question.split(' ').collect();
        let answer = match words[..] {
            ["fund", key] => {
                let client_key = hash(key);
                let terms = Transaction { client_key, unit: unit::BYTES, value: MONEY, ..Transaction::default() };
                hex(&ledger::add_transaction(NET, terms))
            }
            ["last", tx] => hex(&ledger::means(NET, &hash(tx)).unwrap().last.unwrap()),
            ["left", tx] => ledger::means(NET, &hash(tx)).unwrap().output.unwrap().value.to_string(),
            ["earned"] => ledger::earned(NET).to_string(),
            ["audit"] => format!("{:?} {:?}", ledger::audit(NET), ledger::refused(NET)),
            ["rest", key] => limits(&format!("0x{key}")).bytes.to_string(),
            _ => panic!("{question}"),
        };
        println!("> {answer}");
    }
}

#[test]
#[ignore = "a part of another test"]
fn as_the_client() {
    sdk::start_logging();
    let [state, key, order, tx, port] = ["STATE", "KEY", "ORDER", "TX", "TO"].map(|name| std::env::var(name).unwrap());
    let text = format!("[general]\nstate_dir={state}\n[resources]\nthreads_cnt=1\n[cli-server]\nenabled=false\n");
    config::set_current(Config::parse(&text, "test").0);
    app::client_init().unwrap();
    let key = Key::wallet_from_pkcs8(&bytes(&key)).unwrap();
    let client = PayingClient::connect(PORT, key, hash(&order), hash(&tx));
    client.request();
    client.success();
    client.lease();
    loop {
        client.send_datagrams(1, PACKET as usize - 28, port.parse().unwrap());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_server_loses_and_gives_a_receipt_at_most() {
    in_namespace("kills::a_killed_server_loses_and_gives_a_receipt_at_most", || {
        set_loopback_up().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (server_state, client_state) = (directory.path().join("server"), directory.path().join("client"));
        let random = aws_lc_rs::rand::SystemRandom::new();
        let key = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let key_hash = hex(&Key::wallet_from_pkcs8(key.as_ref()).unwrap().hash());
        let seed = u64::from(std::process::id());
        eprintln!("seed {seed}");
        let mut noise = Noise::new(seed);

        let mut host = Host::start(&server_state);
        let made = host.ask(&format!("fund {key_hash}"));
        let (mut served, mut lives) = (0, 0);
        for round in 0..KILLS {
            let last = host.ask(&format!("last {made}"));
            let arguments = [
                ("STATE", client_state.display().to_string()),
                ("KEY", hex(key.as_ref())),
                ("ORDER", host.order.clone()),
                ("TX", last),
                ("TO", host.socket.local_addr().unwrap().port().to_string()),
            ];
            // It complains when the server is dead.
            let mut client = part("kills::as_the_client", &arguments).stderr(Stdio::null()).spawn().unwrap();
            // At any moment: before the first receipt in some rounds, in the middle of a later one in most.
            if round % 4 > 0 {
                eventually("a packet through the tunnel", || host.socket.peek(&mut [0; 2000]).is_ok());
            }
            std::thread::sleep(Duration::from_millis(noise.below(1000) as u64));
            let now = host.kill();
            lives += i64::from(now > 0);
            served += now;
            client.kill().unwrap();
            client.wait().unwrap();
            host = Host::start(&server_state);
        }

        assert_eq!(host.ask("audit"), "Ok(()) []");
        let last = host.ask(&format!("last {made}"));
        let left: u128 = host.ask(&format!("left {last}")).parse().unwrap();
        let earned: u128 = host.ask("earned").parse().unwrap();
        assert_eq!((left + earned, earned % PRICE), (MONEY, 0));
        let paid = (earned / PRICE) as i64 * UNITS;
        let rest: i64 = host.ask(&format!("rest {key_hash}")).parse().unwrap();
        host.kill();
        eprintln!("{KILLS} kills: paid {paid}, served {served}, left {rest}: {} lost", paid - served - rest);
        assert!(lives >= KILLS / 2, "hardly anything was served");
        assert!((paid - served - rest).abs() <= KILLS * UNITS);
    });
}
