// Numbers for people: short, and always of the same width class, so that columns do not dance.

const counts = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const NBSP = "\u202f";

export const count = number => counts.format(number);

/** A number in three significant digits: 0.4, 12.3, 999, 1.2 k, 34 k, 5.1 M. */
export function short(number) {
  if (number < 0.05) return "0";
  if (number < 10) return number.toFixed(1);
  if (number < 1000) return Math.round(number).toString();
  for (const [unit, size] of [["k", 1e3], ["M", 1e6], ["G", 1e9]]) {
    const value = number / size;
    if (value < 9.95) return value.toFixed(1) + NBSP + unit;
    if (value < 999.5) return Math.round(value) + NBSP + unit;
  }
  return (number / 1e12).toFixed(1) + NBSP + "T";
}

/** Bytes: 0, 512 B, 1.5 KB (1,000 bytes, as networks count). */
export function bytes(number) {
  if (number < 0.5) return "0";
  if (number < 1000) return Math.round(number) + NBSP + "B";
  for (const [unit, size] of [["KB", 1e3], ["MB", 1e6], ["GB", 1e9]]) {
    const value = number / size;
    if (value < 9.95) return value.toFixed(1) + NBSP + unit;
    if (value < 999.5) return Math.round(value) + NBSP + unit;
  }
  return (number / 1e12).toFixed(1) + NBSP + "TB";
}

/** Seconds since something began: 4 s, 3:07, 2:13:05, 5 d 04 h. */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = number => String(number).padStart(2, "0");
  if (whole < 60) return whole + NBSP + "s";
  if (whole < 3600) return `${Math.floor(whole / 60)}:${two(whole % 60)}`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return `${Math.floor(whole / 86400)}${NBSP}d ${two(Math.floor(whole / 3600) % 24)}${NBSP}h`;
}

/** A time span given in microseconds; negative for one that is not known. */
export function span(microseconds) {
  if (microseconds < 0 || !Number.isFinite(microseconds)) return "–";
  if (microseconds < 1000) return Math.round(microseconds) + NBSP + "µs";
  if (microseconds < 9950) return (microseconds / 1e3).toFixed(1) + NBSP + "ms";
  if (microseconds < 999500) return Math.round(microseconds / 1e3) + NBSP + "ms";
  return (microseconds / 1e6).toFixed(1) + NBSP + "s";
}

/** Bytes on the wire per byte of payload: what compression saves, or framing costs. */
export function ratio(wire, payload) {
  return payload ? (wire / payload).toFixed(2) : "–";
}

/** The time of day of a moment in milliseconds, with milliseconds. */
export function clock(milliseconds) {
  const date = new Date(milliseconds);
  const pad = (number, width) => String(number).padStart(width, "0");
  return `${pad(date.getHours(), 2)}:${pad(date.getMinutes(), 2)}:${pad(date.getSeconds(), 2)}.${pad(date.getMilliseconds(), 3)}`;
}

/** JSON, indented without changing a digit of it; null for any other text. */
export function indented(text) {
  if (!/^\s*[[{]/.test(text)) return null;
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let made = "";
  let depth = 0;
  const pieces = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s"[\]{},:]+/g);
  pieces.forEach((piece, place) => {
    const line = () => "\n" + "  ".repeat(depth);
    if (piece === "]" || piece === "}") {
      depth -= 1;
      if (!"[{".includes(pieces[place - 1])) made += line();
    }
    made += piece === ":" ? ": " : piece;
    if (piece === "[" || piece === "{") {
      depth += 1;
      if (!"]}".includes(pieces[place + 1])) made += line();
    } else if (piece === ",") made += line();
  });
  return made;
}

/** A payload's bytes, from base64, in hexadecimal digits. */
export function hex(base64) {
  let text = "";
  for (const character of atob(base64)) text += character.charCodeAt(0).toString(16).padStart(2, "0") + " ";
  return text.trimEnd();
}
