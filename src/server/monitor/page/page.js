// Asks the server every two seconds and shows what it says. Only reads, and asks no other host.

import { Chart } from "./chart.js";
import { UNKNOWN, count, duration, left, milliseconds, plural, rate, size, time } from "./format.js";
import { SortableTable, element, resize, setText } from "./table.js";

const PERIOD = 2000;
const HISTORY_PERIOD = 10000;
// After this time without an answer the server counts as gone.
const PATIENCE = 5000;

const at = (id) => document.getElementById(id);
const chart = new Chart(at("chart"), at("chart-point"));

const COMMANDS = {
  embedded: { stat: "cellframe-vpn stat", url: "cellframe-vpn stat --url" },
  node: { stat: "cellframe-node-cli vpn_stat", url: "cellframe-node-cli vpn_stat -url" },
};
/** What the server runs on. */
let sdk = "embedded";
const command = (name) => (COMMANDS[sdk] ?? COMMANDS.embedded)[name];

const LEVELS = { ok: "Good", warning: "Warning", error: "Fault" };
const SERVICES = { free: "free", grace: "in grace", paid: "paid", none: "not served" };

const sessions = new SortableTable(at("session-table"), [
  { head: "Address", value: (it) => addressNumber(it.address), text: (it) => it.address },
  { head: "Client", value: (it) => it.client, text: (it) => it.client ?? "no key", kind: "hash" },
  { head: "Service", value: (it) => it.service, text: (it) => SERVICES[it.service] ?? it.service },
  { head: "Left", value: (it) => it.left, text: (it) => left(it.left, it.unit), number: true },
  { head: "Since", value: (it) => it.seconds, text: (it) => duration(it.seconds), number: true },
  { head: "Up", value: (it) => it.up.bytes, text: (it) => size(it.up.bytes), title: (it) => exact(it.up.bytes), number: true },
  { head: "Down", value: (it) => it.down.bytes, text: (it) => size(it.down.bytes), title: (it) => exact(it.down.bytes), number: true },
  { head: "Up now", value: (it) => it.up.bytes_per_second, text: (it) => rate(it.up.bytes_per_second), number: true },
  { head: "Down now", value: (it) => it.down.bytes_per_second, text: (it) => rate(it.down.bytes_per_second), number: true },
  { head: "Round trip", value: (it) => it.round_trip_ms, text: (it) => milliseconds(it.round_trip_ms), number: true },
  { head: "Waiting", value: (it) => it.queued_bytes, text: (it) => size(it.queued_bytes), title: (it) => exact(it.queued_bytes), number: true },
], 8);

function addressNumber(address) {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

function exact(bytes) {
  return bytes === null ? "" : `${count(bytes)} bytes`;
}

function showHealth(health) {
  const titles = { ok: "All is well", warning: "Works, but look at this", error: "Something is broken" };
  at("health").dataset.level = health.level;
  setText(at("health-title"), titles[health.level] ?? health.level);
  const list = at("findings");
  resize(list, health.findings.length, () => element("li", {}, element("b"), element("span"), element("p")));
  health.findings.forEach((finding, index) => {
    const item = list.children[index];
    const [level, what, remedy] = item.children;
    item.dataset.level = finding.level;
    setText(level, `${LEVELS[finding.level] ?? finding.level}:`);
    setText(what, finding.what);
    setText(remedy, finding.remedy ?? "");
  });
}

// "12.3 Mbit/s" with the unit in a smaller type.
function showFigure(id, text) {
  const [value, unit] = text.split(" ");
  const place = at(id);
  if (place.textContent === text) return;
  place.replaceChildren(value, ...(unit === undefined ? [] : [" ", element("span", { class: "unit" }, unit)]));
}

// All sessions, however they are paid.
function sessionsNow({ now }) {
  return now.free + now.grace + now.paid;
}

function showFigures({ service, sessions: they, traffic, latency, leases }) {
  const { version, uptime_seconds: uptime, network, device } = service;
  setText(at("about"), `version ${version} · up ${duration(uptime)} · ${network} on ${device}`);
  setText(at("sessions-now"), count(sessionsNow(they)));
  const kinds = Object.entries(they.now).filter(([, number]) => number > 0);
  const paid = kinds.map(([kind, number]) => `${count(number)} ${SERVICES[kind]}`).join(" · ");
  setText(at("sessions-note"), `${paid === "" ? "" : `${paid} · `}${count(they.opened)} since the start`);
  for (const side of ["up", "down"]) {
    showFigure(`rate-${side}`, rate(traffic[side].bytes_per_second));
    const total = at(`total-${side}`);
    setText(total, `${size(traffic[side].bytes)} since the start`);
    total.title = `${exact(traffic[side].bytes)}, ${plural(traffic[side].packets, "packet")}`;
  }
  const { round_trip_ms: rtt, queue_ms: queue } = latency;
  showFigure("round-trip", milliseconds(rtt?.p50 ?? null));
  const notes = [];
  if (rtt && rtt.p90 > rtt.p50) notes.push(`9 of 10 within ${milliseconds(rtt.p90)}`);
  if (queue) notes.push(`waits here ${milliseconds(queue.p50)}`);
  setText(at("round-trip-note"), rtt || queue ? notes.join(" · ") : "not measured yet");
  setText(at("leases-free"), count(leases.free));
  const taken = leases.total - leases.free;
  const parts = [`of ${count(leases.total)}`, `${count(leases.leased)} in use`];
  if (leases.kept > 0) parts.push(`${count(leases.kept)} kept`);
  setText(at("leases-note"), parts.join(" · "));
  at("leases-note").title = "Kept: for clients that have left and may come back.";
  const meter = at("leases-meter");
  [meter.max, meter.high, meter.value] = [Math.max(leases.total, 1), leases.total * 0.9, taken];
}

function showSessions({ list, left_out: others }) {
  sessions.show(list);
  const bounded = `The ${count(list.length)} with the most traffic of ${count(list.length + others)}; ${command("stat")} prints all.`;
  setText(at("sessions-shown"), list.length === 0 ? "No client is connected." : others > 0 ? bounded : "");
}

function showDrops(drops) {
  const sorted = [...drops].sort((one, other) => other.packets - one.packets);
  setText(at("drops-note"), sorted.length > 0 ? "Since the start." : "None since the start.");
  const body = at("drops").tBodies[0];
  const row = () => element("tr", {}, element("td", {}, element("span"), element("p")), element("td", { class: "number" }, element("span"), element("p")));
  resize(body, sorted.length, row);
  sorted.forEach((drop, index) => {
    const [why, packets] = body.children[index].children;
    setText(why.children[0], drop.what);
    setText(why.children[1], drop.advice ?? "");
    why.title = drop.cause;
    setText(packets.children[0], count(drop.packets));
    setText(packets.children[1], drop.last_minute > 0 ? `${count(drop.last_minute)} in the last minute` : "");
  });
}

function showEarned(earned) {
  setText(at("earned-note"), earned.length > 0 ? "By the account book, for each token." : "Nothing is sold yet.");
  const rows = earned.flatMap(({ token, net, signed, settled, clients, left_out: others }) => [
    { head: net ? `${token} (${net})` : token, signed, settled },
    ...clients.map((it) => ({ client: it.client, signed: it.signed, settled: it.settled })),
    ...(others > 0 ? [{ more: `and ${plural(others, "other client")}` }] : []),
  ]);
  const lines = rows.map(({ head, more, client, signed, settled }) => {
    if (more !== undefined) return element("tr", {}, element("td", { colspan: "3", class: "note" }, more));
    const name = head === undefined ? element("td", { class: "hash" }, client ?? "no key") : element("th", { scope: "row" }, head);
    const numbers = [signed, settled].map((value) => element("td", { class: "number" }, value ?? UNKNOWN));
    return element("tr", {}, name, ...numbers);
  });
  at("earned").tBodies[0].replaceChildren(...lines);
}

function show(status) {
  sdk = status.service.sdk;
  showHealth(status.health);
  showFigures(status);
  showSessions(status.sessions);
  showDrops(status.drops);
  showEarned(status.earnings);
  const now = sessionsNow(status.sessions);
  const mark = { warning: "⚠ ", error: "✖ " }[status.health.level] ?? "";
  document.title = `${mark}${plural(now, "session")} – Cellframe VPN`;
}

function showHistory({ step, samples }) {
  chart.show(samples, step);
  const body = at("history").tBodies[0];
  // A row a minute, the newest first: what a person reads.
  const minutes = samples.filter((_, index) => (samples.length - 1 - index) % 6 === 0).reverse();
  const row = () => element("tr", {}, element("td"), ...Array.from({ length: 5 }, () => element("td", { class: "number" })));
  resize(body, minutes.length, row);
  minutes.forEach(([ago, up, down, number, drops, rtt], index) => {
    const clock = time(new Date(Date.now() - ago * 1000)).slice(0, 5);
    const texts = [clock, rate(up), rate(down), count(number), `${drops.toFixed(1)}/s`, milliseconds(rtt)];
    texts.forEach((text, column) => setText(body.children[index].children[column], text));
  });
}

// What is wrong, in words, or "" while the server answers.
let since = null;

function showGone(why) {
  since ??= new Date();
  const gone = at("gone");
  setText(gone, `${why} The figures below are of ${time(since)}.`);
  gone.hidden = false;
  at("health").dataset.level = "unknown";
  setText(at("health-title"), "Not known at the moment");
  document.title = "✖ no answer – Cellframe VPN";
}

class Refused extends Error {}
class NoAnswer extends Error {}

async function ask(path) {
  const signal = AbortSignal.timeout(PATIENCE);
  const failed = (cause) => {
    throw new NoAnswer(path, { cause });
  };
  const reply = await fetch(path, { cache: "no-store", credentials: "same-origin", signal }).catch(failed);
  if (reply.status === 403) throw new Refused();
  return reply.ok ? reply.json().catch(failed) : failed(reply.status);
}

// The version of the server that has made this page.
let version = null;
let historyDue = 0;

async function round() {
  try {
    const status = await ask("status.json");
    version ??= status.service.version;
    // Another version may have another page.
    if (status.service.version !== version) return location.reload();
    show(status);
    if (Date.now() >= historyDue) {
      showHistory(await ask("history.json"));
      historyDue = Date.now() + HISTORY_PERIOD;
    }
    since = null;
    at("gone").hidden = true;
    setText(at("updated"), `Updated at ${time(new Date())}.`);
  } catch (error) {
    console.debug(error);
    if (!(error instanceof Refused || error instanceof NoAnswer)) {
      showGone("This page does not understand the server's answer: reload it.");
    } else if (error instanceof Refused) {
      showGone(`The server does not know this page's token any more: run ${command("url")} on the server and open what it prints.`);
    } else {
      showGone("The server does not answer: it has stopped, or the way to it is down.");
    }
    historyDue = 0;
  }
}

// One question at a time, and none while nobody looks.
async function run() {
  for (;;) {
    if (document.visibilityState === "hidden") {
      await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
    }
    await round();
    await new Promise((done) => setTimeout(done, PERIOD));
  }
}

run();
