import { createServer } from "node:http";

import { betterAuth } from "better-auth";

import { connect, optionsOf } from "./auth.js";
import { listener } from "./http.js";
import { log } from "./log.js";

const CONNECTIONS_MAX = 10;
const STOP_MILLISECONDS = 10_000;

/**
 * Serves until SIGTERM, and then lets what runs end; `leave` handled it until now.
 *
 * @throws there is no database, or the migration has not run.
 */
export async function serve(settings, leave) {
  const pool = connect(settings, { max: CONNECTIONS_MAX });
  const auth = betterAuth(optionsOf(settings, pool));
  await auth.$context;
  // Nothing is served before its tables are there.
  await pool.query('SELECT FROM "session", "rateLimit" LIMIT 0');

  const server = createServer(
    { headersTimeout: 10_000, requestTimeout: 30_000, connectionsCheckingInterval: 5_000 },
    listener(auth, settings),
  );
  const stop = () => {
    log("info", "stopping");
    setTimeout(() => server.closeAllConnections(), STOP_MILLISECONDS).unref();
    server.close(() => pool.end().then(() => process.exit(0)));
  };
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(settings.port, settings.host, resolve);
  });
  process.removeListener("SIGTERM", leave);
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  log("info", "serving", { port: settings.port });
}
