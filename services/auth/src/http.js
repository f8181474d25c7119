/** What stands between node:http and Better Auth: bounds, addresses, and which pages may call. */
import { BlockList, isIP } from "node:net";

import { toNodeHandler } from "better-auth/node";

import { factsOf, log } from "./log.js";

const BODY_BYTES_MAX = 64 * 1024;
const PREFLIGHT = {
  "Access-Control-Allow-Headers": "authorization, content-type",
  "Access-Control-Allow-Methods": "GET, POST",
  "Access-Control-Max-Age": "600",
};

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function listener(auth, { trustedOrigins, trustedProxies }) {
  const handle = toNodeHandler(auth);
  const proxies = blockListOf(trustedProxies);

  async function respond(request, response) {
    const path = request.url.split("?", 1)[0];
    if (path === "/health") {
      return answer(response, 200, { status: "ok" });
    }
    if (!path.startsWith("/api/auth/")) {
      throw new Refusal(404, "Not found");
    }
    const isTrusted = trustedOrigins.includes(request.headers.origin);
    if (isTrusted) {
      response.setHeader("Access-Control-Allow-Origin", request.headers.origin);
      response.setHeader("Access-Control-Allow-Credentials", "true");
    }
    if (request.method === "OPTIONS") {
      if (!isTrusted) {
        throw new Refusal(403, "Not a trusted origin");
      }
      return response.writeHead(204, PREFLIGHT).end();
    }
    request.headers["x-forwarded-for"] = addressOf(request, proxies);
    // Better Auth knows its URL; what a client says of it counts for nothing, and may not even be one.
    request.headers["x-forwarded-proto"] = "http";
    request.headers.host = "parley-auth";
    // None at all, where there is none: Better Auth asks what kind of body an empty one is.
    request.body = (await read(request)) || undefined;
    return handle(request, response);
  }

  return async (request, response) => {
    response.setHeader("Cache-Control", "no-store");
    response.setHeader("Vary", "Origin");
    response.setHeader("X-Content-Type-Options", "nosniff");
    try {
      await respond(request, response);
    } catch (error) {
      refuse(request, response, error);
    }
  };
}

function blockListOf(networks) {
  const list = new BlockList();
  for (const network of networks) {
    const [address, prefix] = network.split("/");
    const family = `ipv${isIP(address)}`;
    if (prefix === undefined) {
      list.addAddress(address, family);
    } else {
      list.addSubnet(address, Number(prefix), family);
    }
  }
  return list;
}

/** Who asked: from the right, the first of X-Forwarded-For that no trusted proxy said of another; else the peer. */
function addressOf(request, proxies) {
  const hops = (request.headers["x-forwarded-for"] ?? "").split(",").map((hop) => hop.trim());
  let address = request.socket.remoteAddress;
  while (proxies.check(address, `ipv${isIP(address)}`)) {
    const hop = hops.pop();
    if (hop === undefined || !isIP(hop)) {
      break;
    }
    address = hop;
  }
  return address;
}

async function read(request) {
  const chunks = [];
  let size = Number(request.headers["content-length"] ?? 0);
  if (size <= BODY_BYTES_MAX) {
    size = 0;
    // Not to be destroyed with it: the refusal still goes over this connection.
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      size += chunk.length;
      if (size > BODY_BYTES_MAX) {
        break;
      }
      chunks.push(chunk);
    }
  }
  if (size > BODY_BYTES_MAX) {
    throw new Refusal(413, `A body may have ${BODY_BYTES_MAX} bytes`);
  }
  return Buffer.concat(chunks).toString();
}

function refuse(request, response, error) {
  if (request.socket.destroyed) {
    return;
  }
  if (!(error instanceof Refusal)) {
    log("error", "a request failed", factsOf(error));
  }
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (!request.complete) {
    response.setHeader("Connection", "close");
  }
  answer(response, error.status ?? 500, { message: error instanceof Refusal ? error.message : "Something went wrong" });
}

function answer(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}
