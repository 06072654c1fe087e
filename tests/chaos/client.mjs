// The JavaScript client, many times in one process: node --experimental-websocket client.mjs CONFIG
//
// Some follow on WebSockets, some on event streams, with the package's own module for them. Journals
// what comes over the wire and what the application's handler is told.

import { appendFileSync, readFileSync } from "node:fs";
import { connect } from "../../wagtail_live/static/wagtail_live/wagtail-live.js";
import { eventStream } from "../../wagtail_live/static/wagtail_live/wagtail-live-events.js";

const run = JSON.parse(readFileSync(process.argv[2], "utf8"));

function write(record) {
  const t = Number(process.hrtime.bigint() / 100_000n) / 10_000;
  appendFileSync(run.scriptJournal, JSON.stringify({ ...record, t }) + "\n");
}

/** Of the planted bug: every so-manieth update is told twice. */
const EVERY = 25;
let told = 0;
const AGAIN_MS = 2000;
const REFUSALS = new Set(["FORBIDDEN", "INVALID_QUERY"]);

const identity = ({ collection, item, query }) => JSON.stringify([collection, item, query]);
const names = new Map(Object.entries(run.scopes).map(([name, asked]) => [identity(asked), name]));

/** The wire of one link, journalled: what is asked, what comes, and once that it is lost. */
class Wire {
  #scopes = new Map(); // uid -> scope; of a scope only the newest uid counts

  constructor(client, refused) {
    this.client = client;
    this.refused = refused;
  }

  asked(message) {
    const scope = names.get(identity(message));
    for (const [uid, name] of this.#scopes) if (name === scope) this.#scopes.delete(uid);
    this.#scopes.set(message.uid, scope);
    write({ kind: "ask", c: this.client.id, s: scope, cursor: message.cursor ?? null });
  }

  came(text) {
    const frame = JSON.parse(text);
    const scope = this.#scopes.get(frame.uid);
    if (!scope || this.isLost) return;
    write({ kind: "frame", c: this.client.id, s: scope, frame });
    // Refused is final to the client. What is restricted now, or the parent that a query names, may
    // be open later: this one asks again.
    const isRefused = frame.status === "error" && REFUSALS.has(frame.error.code);
    if (isRefused) setTimeout(this.refused, AGAIN_MS, scope);
  }

  lost() {
    if (!this.isLost) write({ kind: "lost", c: this.client.id });
    this.isLost = true;
  }
}

/** The ports of the servers in turn, as a client behind a balancer finds them. */
function turns({ server }) {
  return () => run.ports[server++ % run.ports.length];
}

/** Options of a client that follows on WebSockets. */
function onSockets(client, headers, refused) {
  const next = turns(client);
  return {
    WebSocket: class extends WebSocket {
      #wire = new Wire(client, refused);

      constructor() {
        super(`ws://localhost:${next()}/websocket`, { headers });
        this.addEventListener("message", ({ data }) => this.onmessage && this.#wire.came(data));
        this.addEventListener("close", () => this.#wire.lost());
      }

      send(text) {
        const message = JSON.parse(text);
        if (message.type === "subscribe") this.#wire.asked(message);
        super.send(text);
      }

      close() {
        this.#wire.lost();
        super.close();
      }
    },
  };
}

/** Options of a client that follows on event streams; each has a window, and so a stream, alone. */
function onStreams(client, headers, refused) {
  const next = turns(client);
  return {
    transport: eventStream,
    clock: globalThis,
    window: {
      async fetch(address, init) {
        const wire = new Wire(client, refused);
        init.signal.addEventListener("abort", () => wire.lost());
        JSON.parse(init.body).forEach((message) => wire.asked(message));
        const url = new URL(address);
        url.port = next();
        try {
          const response = await fetch(url, { ...init, headers });
          return new Response(response.body.pipeThrough(watched(wire)), response);
        } catch (error) {
          wire.lost();
          throw error;
        }
      },
    },
  };
}

/** Journals the events of a stream, each when the client takes it. */
function watched(wire) {
  const decoder = new TextDecoder();
  let rest = "";
  return new TransformStream(
    {
      transform(piece, controller) {
        controller.enqueue(piece);
        const events = (rest + decoder.decode(piece, { stream: true })).split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const [, text] = /^data: ?(.*)$/m.exec(event) ?? [];
          if (text) wire.came(text);
        }
      },
      flush: () => wire.lost(),
    },
    undefined,
    { highWaterMark: 0 },
  );
}

const KINDS = { script: onSockets, "script-events": onStreams };

for (const client of run.clients.filter(({ transport }) => transport in KINDS)) {
  const cookie = run.cookies[client.asker];
  const headers = { Origin: run.origin, ...(cookie && { Cookie: cookie }) };
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
  const connection = connect("ws://localhost/websocket", {
    ...KINDS[client.transport](client, headers, follow),
    heartbeatSeconds: 2,
    backoff: { min: 0.3, max: 2 },
  });
  connection.on("error", (error) =>
    write({ kind: "error", c: client.id, code: error.code, text: error.message }),
  );
  client.scopes.forEach(follow);
}
