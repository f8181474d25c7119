/** `node src/main.js serve` or `migrate`. */
import { log, factsOf } from "./log.js";

// Before all that takes its time to load: the first process of a container is deaf to what it has no handler for.
const leave = () => process.exit(143);
process.once("SIGTERM", leave);

const commands = {
  serve: async (settings) => (await import("./serve.js")).serve(settings, leave),
  migrate: async (settings) => (await import("./migrate.js")).migrate(settings),
};

const { InvalidSettings, readSettings } = await import("./settings.js");
const command = process.argv[2] ?? "serve";
try {
  if (!Object.hasOwn(commands, command)) {
    throw new InvalidSettings([`There is no command ${JSON.stringify(command)}: say serve or migrate.`]);
  }
  await commands[command](readSettings(process.env));
} catch (error) {
  if (error instanceof InvalidSettings) {
    process.stderr.write(`${error.message}\n`);
  } else {
    log("error", `${command} failed`, factsOf(error));
  }
  process.exit(1);
}
