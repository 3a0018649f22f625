// The traffic of the last hour as two lines over time, drawn anew with each answer of the server.

import { milliseconds, plural, rate, roundRate, time } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const HOUR = 3600;
const MARGIN = { top: 8, right: 8, bottom: 22, left: 76 };

function make(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

// The end of the scale: the least round number of bits a second that is no less than the peak, in bytes.
function ceiling(bytes) {
  const bits = Math.max(bytes * 8, 1000);
  const power = 10 ** Math.floor(Math.log10(bits));
  const step = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((factor) => factor * power >= bits);
  return (step * power) / 8;
}

export class Chart {
  // `place` is the element that the chart is drawn in, `point` the one that says what the cursor is at.
  constructor(place, point) {
    this.place = place;
    this.point = point;
    this.samples = [];
    this.at = null;
    place.addEventListener("pointermove", (event) => this.follow(event));
    place.addEventListener("pointerleave", () => this.move(null));
    place.addEventListener("blur", () => this.move(null));
    place.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(place);
  }

  // Takes samples as /history.json has them, the oldest first, each of the `step` seconds before it.
  show(samples, step) {
    this.samples = samples.map(([ago, up, down, sessions, drops, rtt]) => ({ ago, up, down, sessions, drops, rtt }));
    this.step = step;
    this.taken = Date.now();
    this.draw();
  }

  x(ago) {
    return MARGIN.left + (1 - ago / HOUR) * (this.width - MARGIN.left - MARGIN.right);
  }

  y(bytes) {
    return this.height - MARGIN.bottom - (bytes / this.top) * (this.height - MARGIN.top - MARGIN.bottom);
  }

  draw() {
    this.width = this.place.clientWidth;
    if (this.width === 0) return;
    const svg = make("svg", { "aria-hidden": "true" });
    this.place.replaceChildren(svg);
    this.height = svg.clientHeight;
    svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    const peak = (side) => this.samples.reduce((most, sample) => Math.max(most, sample[side]), 0);
    this.top = ceiling(Math.max(peak("up"), peak("down")));
    this.grid(svg);
    if (this.samples.length > 0) {
      // The first sample is a line, too: from where it began.
      const begin = { ...this.samples[0], ago: Math.min(this.samples[0].ago + this.step, HOUR) };
      const line = [begin, ...this.samples];
      const points = (side) => line.map((it) => `${this.x(it.ago).toFixed(1)},${this.y(it[side]).toFixed(1)}`);
      const [first, last] = [begin, line.at(-1)].map((sample) => this.x(sample.ago).toFixed(1));
      const floor = this.y(0);
      svg.append(
        make("polygon", { class: "area", points: `${first},${floor} ${points("down").join(" ")} ${last},${floor}` }),
        make("polyline", { class: "line down", points: points("down").join(" ") }),
        make("polyline", { class: "line up", points: points("up").join(" ") }),
      );
    }
    this.cursor(svg);
    const said = `Traffic of the last hour: at most ${rate(peak("down"))} to clients, ${rate(peak("up"))} from clients.`;
    this.place.setAttribute("aria-label", `${said} The arrow keys move along the samples.`);
  }

  grid(svg) {
    for (const part of [0, 0.5, 1]) {
      const y = this.y(this.top * part);
      svg.append(
        make("line", { class: "grid", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y }),
        make("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, part === 0 ? "0" : roundRate(this.top * part)),
      );
    }
    const every = this.width < 480 ? 30 : 10;
    for (let minutes = 60; minutes >= 0; minutes -= every) {
      const anchor = minutes === 60 ? "start" : minutes === 0 ? "end" : "middle";
      const text = minutes === 0 ? "now" : `−${minutes} min`;
      svg.append(make("text", { x: this.x(minutes * 60), y: this.height - 5, "text-anchor": anchor }, text));
    }
  }

  cursor(svg) {
    const sample = this.at === null ? undefined : this.samples[this.at];
    if (sample === undefined) {
      this.point.textContent = "";
      return;
    }
    const x = this.x(sample.ago);
    svg.append(make("line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: this.y(0) }));
    for (const side of ["down", "up"]) {
      svg.append(make("circle", { class: `dot ${side}`, cx: x, cy: this.y(sample[side]), r: 5 }));
    }
    const parts = [
      time(new Date(this.taken - sample.ago * 1000)),
      `${rate(sample.down)} to clients`,
      `${rate(sample.up)} from clients`,
      plural(sample.sessions, "session"),
    ];
    if (sample.rtt !== null) parts.push(`round trip ${milliseconds(sample.rtt)}`);
    if (sample.drops > 0) parts.push(`${sample.drops.toFixed(1)} drops/s`);
    this.point.textContent = parts.join(" · ");
  }

  move(to) {
    this.at = to;
    this.draw();
  }

  follow(event) {
    const x = event.clientX - this.place.getBoundingClientRect().left;
    let nearest = null;
    this.samples.forEach((sample, index) => {
      const distance = Math.abs(this.x(sample.ago) - x);
      if (nearest === null || distance < nearest.distance) nearest = { index, distance };
    });
    const to = nearest?.index ?? null;
    if (to !== this.at) this.move(to);
  }

  key(event) {
    const last = this.samples.length - 1;
    const at = this.at ?? last + 1;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.move(Math.min(Math.max(to, 0), last));
  }
}
