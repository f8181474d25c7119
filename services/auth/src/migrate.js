import { readFile } from "node:fs/promises";

import { getMigrations } from "better-auth/db/migration";

import { connect, optionsOf } from "./auth.js";
import { log } from "./log.js";

const GRANTS = new URL("../../../deploy/better-auth/grants.sql", import.meta.url);
const PATIENCE_MILLISECONDS = 300_000;

/**
 * Makes what is missing of Better Auth's tables, and lets Parley look a session up: all of it, or nothing. A second time
 * changes nothing.
 *
 * @throws what PostgreSQL or Better Auth has against it; nothing is changed then.
 */
export async function migrate(settings) {
  // With one connection, all that Better Auth does is in the transaction that is begun here.
  const pool = connect(settings, { max: 1 });
  try {
    await pool.query("BEGIN");
    // Two at one moment would make the same tables, and one would fail: it waits for a whole migration, not for a query.
    const text = "SELECT pg_advisory_xact_lock(hashtext('parley auth'))";
    await pool.query({ text, query_timeout: PATIENCE_MILLISECONDS });
    await pool.query("SET LOCAL lock_timeout = '4s'");
    const { toBeCreated, toBeAdded, runMigrations } = await getMigrations(optionsOf(settings, pool));
    await runMigrations();
    await pool.query(await readFile(GRANTS, "utf8"));
    await pool.query("COMMIT");
    log("info", "migrated", { tables: toBeCreated.length, changed: toBeAdded.length });
  } finally {
    await pool.end();
  }
}
