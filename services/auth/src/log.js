/** One JSON line an event, in the manner of Parley's: names, numbers and types, and nothing that somebody typed. */

export function log(level, event, facts = {}) {
  const line = JSON.stringify({ event, ...facts, level, logger: "auth", timestamp: new Date().toISOString() });
  // ASCII only: no line separator or escape of somebody's making gets through.
  process.stderr.write(`${line.replace(/[\u007f-\uffff]/g, escaped)}\n`);
}

/** What a log may say of an error: PostgreSQL's `detail` quotes values, and a driver's message may quote a URL. */
export function factsOf(error) {
  const facts = { exception: error?.name ?? typeof error };
  if (typeof error?.code === "string") {
    facts.code = error.code;
  }
  if (isPlain(error)) {
    facts.reason = error.message;
    facts.hint = error.hint;
  }
  const frames = String(error?.stack ?? "").split("\n").filter((line) => line.startsWith("    at "));
  return { ...facts, frames: frames.slice(0, 8).map((frame) => frame.trim()) };
}

/** For Better Auth: its own words without what they quote, and of what it adds the kind of an error alone. */
export const betterAuthLogger = {
  level: "warn",
  log(level, message, ...added) {
    const error = added.find((item) => item instanceof Error);
    log(level, String(message).replace(/\S*:\/\/\S*/g, "…").slice(0, 200), error && factsOf(error));
  },
};

function escaped(character) {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

// The system's message has an address, Better Auth's a column, and PostgreSQL's names; but for class 22: values.
function isPlain(error) {
  const isOfPostgres = typeof error?.severity === "string" && !error.code.startsWith("22");
  return isOfPostgres || typeof error?.syscall === "string" || error?.name === "UnsafeMigrationError";
}
