/** Better Auth as Parley needs it; how its own defaults serve, they stay. */
import { bearer, jwt } from "better-auth/plugins";
import pg from "pg";

import { betterAuthLogger, factsOf, log } from "./log.js";

/** Connections to PostgreSQL, whose role has the search_path of Better Auth's tables. */
export function connect({ databaseUrl }, { max }) {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max,
    connectionTimeoutMillis: 5_000,
    // Here, and not the server's statement_timeout: a pooler refuses to start a session that asks for one.
    query_timeout: 10_000,
    application_name: "parley-auth",
  });
  // An idle connection that PostgreSQL ended; the next query opens another.
  pool.on("error", (error) => log("warn", "a connection was lost", factsOf(error)));
  return pool;
}

/** The options of `betterAuth`, and of its migrations. */
export function optionsOf({ secret, url, registration, trustedOrigins }, database) {
  return {
    appName: "Parley",
    baseURL: url,
    secret,
    database,
    trustedOrigins,
    emailAndPassword: { enabled: true, disableSignUp: registration === "closed" },
    // Parley verifies the first by the keys at /api/auth/jwks, and looks the second up in the table of sessions.
    // Signed alone, as Parley has it: the table has tokens in clear, and whoever reads a backup must not be anybody.
    plugins: [jwt(), bearer({ requireSignature: true })],
    // In the database, so that several of these count together.
    rateLimit: { enabled: true, storage: "database" },
    advanced: {
      // Also with NODE_ENV=test, where it would be off.
      disableOriginCheck: false,
      // Of one address, which `listener` puts there.
      ipAddress: { ipAddressHeaders: ["x-forwarded-for"] },
    },
    logger: betterAuthLogger,
    // To `listener`, which logs it without what it quotes.
    onAPIError: { throw: true },
    telemetry: { enabled: false },
  };
}
