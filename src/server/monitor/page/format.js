// Figures as people read them. Each function takes a number, or null for what is not known.

export const UNKNOWN = "–";

const PREFIXES = ["", "k", "M", "G", "T", "P"];

// 1234567 -> ["1.23", "M"]: three digits.
function scaled(number) {
  let power = 0;
  let value = number;
  while (value >= 999.5 && power < PREFIXES.length - 1) {
    value /= 1000;
    power += 1;
  }
  const digits = power === 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return [value.toFixed(digits), PREFIXES[power]];
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return UNKNOWN;
  const [value, prefix] = scaled(bytes);
  return `${value} ${prefix}B`;
}

// Bytes a second as bits a second, which lines are sold in.
export function rate(bytes) {
  if (bytes === null || bytes === undefined) return UNKNOWN;
  const [value, prefix] = scaled(bytes * 8);
  return `${value} ${prefix}bit/s`;
}

// The same without trailing zeros, for the scale of a chart.
export function roundRate(bytes) {
  const [value, prefix] = scaled(bytes * 8);
  return `${Number(value)} ${prefix}bit/s`;
}

export function count(number) {
  if (number === null || number === undefined) return UNKNOWN;
  return String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

export function milliseconds(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(seconds / unit));
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  if (minutes > 0) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds)} s`;
}

// What a client has left, in the unit that it buys.
export function left(units, unit) {
  if (units === null || units === undefined) return UNKNOWN;
  return unit === "B" ? size(units) : duration(units);
}

export function time(date) {
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

// "1 session", "2 sessions".
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}
