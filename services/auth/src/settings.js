/** What an operator has set, checked as a whole. */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";

const SECRET_BYTES_MIN = 32;

/** One line a fault, each naming its variable and none quoting a value. */
export class InvalidSettings extends Error {
  constructor(faults) {
    super(faults.join("\n"));
    this.name = "InvalidSettings";
  }
}

/**
 * From the environment; empty is unset. A secret may come from a file: BETTER_AUTH_SECRET_FILE, DATABASE_URL_FILE.
 *
 * @throws {InvalidSettings} with every fault that was found.
 */
export function readSettings(environment) {
  const faults = [];
  const checked = (name, value, holds, fault) => {
    if (value !== undefined && !holds(value)) {
      faults.push(`${name}: ${fault}`);
    }
    return value;
  };
  const settings = {
    secret: checked(
      "BETTER_AUTH_SECRET",
      secretOf("BETTER_AUTH_SECRET", environment, faults),
      (secret) => Buffer.byteLength(secret) >= SECRET_BYTES_MIN,
      `set it to ${SECRET_BYTES_MIN} bytes or more, for example to what \`openssl rand -hex 32\` prints`,
    ),
    databaseUrl: checked(
      "DATABASE_URL",
      secretOf("DATABASE_URL", environment, faults),
      (url) => /^postgres(ql)?:\/\//.test(url),
      "set it to postgresql://parley_auth:password@host/name",
    ),
    url: checked(
      "BETTER_AUTH_URL",
      (environment.BETTER_AUTH_URL ?? "").replace(/\/$/, ""),
      isOrigin,
      "set it to the origin that users and Parley reach this by, such as https://auth.example.com, without a path",
    ),
    host: environment.HOST || "127.0.0.1",
    port: checked(
      "PORT",
      Number(environment.PORT || 3000),
      (port) => Number.isInteger(port) && port > 0 && port < 65536,
      "must be a port",
    ),
    registration: checked(
      "AUTH_REGISTRATION",
      environment.AUTH_REGISTRATION || "open",
      (registration) => ["open", "closed"].includes(registration),
      "must be open or closed",
    ),
    trustedOrigins: checked(
      "BETTER_AUTH_TRUSTED_ORIGINS",
      itemsOf(environment.BETTER_AUTH_TRUSTED_ORIGINS),
      (origins) => origins.every(isOrigin),
      "must be origins as browsers send them, such as https://chat.example.com; comma-separated",
    ),
    trustedProxies: checked(
      "TRUSTED_PROXIES",
      itemsOf(environment.TRUSTED_PROXIES),
      (networks) => networks.every(isNetwork),
      "must be addresses or networks, such as 10.0.0.1 or 10.0.0.0/8; comma-separated",
    ),
  };
  if (faults.length > 0) {
    throw new InvalidSettings(faults);
  }
  return settings;
}

function secretOf(name, environment, faults) {
  const path = environment[`${name}_FILE`];
  if (!path) {
    return environment[name] ?? "";
  }
  if (environment[name]) {
    faults.push(`${name}: is set, and ${name}_FILE too; keep one of them`);
  }
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    faults.push(`${name}_FILE: cannot be read: ${error.code}`);
    return undefined;
  }
}

function itemsOf(list) {
  return (list ?? "").split(",").map((item) => item.trim()).filter(Boolean);
}

function isOrigin(text) {
  return /^https?:/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

function isNetwork(text) {
  const [address, prefix, ...rest] = text.split("/");
  const bits = { 4: 32, 6: 128 }[isIP(address)];
  return bits !== undefined && rest.length === 0 && (prefix === undefined || (/^\d+$/.test(prefix) && Number(prefix) > 0 && Number(prefix) <= bits));
}
