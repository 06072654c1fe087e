// The JavaScript client, many times in one process: node --experimental-websocket client.mjs CONFIG
//
// Journals what comes over the wire and what the application's handler is told.

import { appendFileSync, readFileSync } from "node:fs";
import { connect } from "../../wagtail_live/static/wagtail_live/wagtail-live.js";

const run = JSON.parse(readFileSync(process.argv[2], "utf8"));

function write(record) {
  const t = Number(process.hrtime.bigint() / 100_000n) / 10_000;
  appendFileSync(run.scriptJournal, JSON.stringify({ ...record, t }) + "\n");
}

/** Of the planted bug: every so-manieth update is told twice. */
const EVERY = 25;
let told = 0;
const AGAIN_MS = 1000;

const identity = ({ collection, item, query }) => JSON.stringify([collection, item, query]);
const names = new Map(Object.entries(run.scopes).map(([name, asked]) => [identity(asked), name]));

/** A WebSocket class that goes to the servers in turn, as a client behind a balancer does. */
function sockets(client, headers, refused) {
  let server = client.server;
  return class extends WebSocket {
    #scopes = new Map(); // uid -> scope; of a scope only the newest uid counts

    constructor() {
      const port = run.ports[server++ % run.ports.length];
      super(`ws://localhost:${port}/websocket`, { headers });
      this.addEventListener("message", ({ data }) => {
        const frame = JSON.parse(data);
        const scope = this.#scopes.get(frame.uid);
        if (this.onmessage && scope) write({ kind: "frame", c: client.id, s: scope, frame });
        if (scope && frame.status === "error" && frame.error.code === "FORBIDDEN") refused(scope);
      });
      this.addEventListener("close", () => this.onclose && write({ kind: "lost", c: client.id }));
    }

    send(text) {
      const message = JSON.parse(text);
      if (message.type === "subscribe") {
        const scope = names.get(identity(message));
        for (const [uid, name] of this.#scopes) if (name === scope) this.#scopes.delete(uid);
        this.#scopes.set(message.uid, scope);
        write({ kind: "ask", c: client.id, s: scope, cursor: message.cursor ?? null });
      }
      super.send(text);
    }

    close() {
      if (this.readyState <= 1) write({ kind: "lost", c: client.id });
      super.close();
    }
  };
}

for (const client of run.clients.filter(({ transport }) => transport === "script")) {
  const cookie = run.cookies[client.asker];
  const headers = { Origin: run.origin, ...(cookie && { Cookie: cookie }) };
  // Refused is final to the client. What is restricted now may be open later: this one asks again.
  const connection = connect("ws://localhost/websocket", {
    WebSocket: sockets(client, headers, (name) => setTimeout(follow, AGAIN_MS, name)),
    heartbeatSeconds: 2,
    backoff: { min: 0.3, max: 2 },
  });
  connection.on("error", (error) =>
    write({ kind: "error", c: client.id, code: error.code, text: error.message }),
  );
  const follow = (name) => {
    const { collection, item, query } = run.scopes[name];
    const path = item === undefined ? collection : `${collection}/${item}`;
    connection.subscribe(path, query, ({ event, data, reset }) => {
      write({ kind: "app", c: client.id, s: name, event, data, reset });
      if (run.bug === "repeat" && event === "update" && told++ % EVERY === 0) {
        write({ kind: "app", c: client.id, s: name, event, data, reset });
      }
    });
  };
  client.scopes.forEach(follow);
}
