// Follows the content of a Wagtail site. Manual: docs/reference/client.md

const LIMIT = 10_000; // ids remembered, and changes kept for a slow iterator
const CHANGES = ["delete", "create", "update"];

/** A transport. After `close()` it tells nothing more. */
function webSocket(url, { WebSocket }, { opened, received, lost }) {
  const socket = new WebSocket(url);
  socket.onopen = opened;
  socket.onmessage = ({ data }) => received(data);
  socket.onclose = ({ code }) => lost(code);
  return {
    send: (text) => socket.send(text),
    close() {
      // On a dead network `onclose` comes minutes late.
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    },
  };
}

/** Keeps a link open. Knows nothing of subscriptions. */
function keepOpen(url, options, delay, on) {
  const { window, clock, transport, heartbeatSeconds, backoff } = options;
  const { document, navigator } = window;
  const listening = new AbortController();
  let link, isOpen, timer, stable, patient;
  let attempts = 0;

  // With a link: the watch over it. Without: the next attempt.
  function after(seconds, action) {
    clock.clearTimeout(timer);
    timer = clock.setTimeout(action, seconds * 1000);
  }
  const watch = () => after(heartbeatSeconds * 2.5, lost);
  const offline = () => navigator?.onLine === false;
  const start = () => (offline() ? after(backoff.max, open) : open());

  function open() {
    watch();
    try {
      link = transport(url, options, { opened, received, lost });
    } catch (error) {
      on.error("CONNECTION_FAILED", error.message);
      lost();
    }
  }

  function opened() {
    watch();
    isOpen = true;
    stable = clock.setTimeout(() => (attempts = 0), 10_000);
    on.opened();
  }

  function received(text) {
    watch();
    on.received(text);
  }

  function drop() {
    clock.clearTimeout(timer);
    clock.clearTimeout(stable);
    link?.close();
    link = isOpen = undefined;
  }

  function lost(code) {
    drop();
    if (code === 4401 || code === 4403) return on.refused(code);
    patient = code === 1009 || code === 4429; // we sent too much
    const seconds = Math.max(delay(attempts++), patient ? backoff.max / 2 : 0);
    after(offline() ? backoff.max : seconds, open);
    on.lost();
  }

  function send(message) {
    if (isOpen) link.send(JSON.stringify(message));
  }

  function wake() {
    if (link) {
      send({ type: "ping" });
      after(5, lost);
    } else if (!patient && !offline()) open();
  }

  function listen(target, type, action) {
    target?.addEventListener?.(type, action, { signal: listening.signal });
  }
  listen(window, "online", wake);
  listen(document, "visibilitychange", () => document.visibilityState === "visible" && wake());
  // An open socket bars the page from the back/forward cache.
  listen(window, "pagehide", ({ persisted }) => persisted && (drop(), on.lost()));
  listen(window, "pageshow", ({ persisted }) => persisted && !link && start());
  start();

  return { send, close: () => (listening.abort(), drop()) };
}

function fingerprint(row) {
  const text = JSON.stringify(row);
  let a = text.length;
  let b = 1;
  for (let i = 0; i < text.length; i++) {
    a = Math.imul(a ^ text.charCodeAt(i), 0x01000193);
    b = Math.imul(b ^ text.charCodeAt(i), 0x9e3779b1);
  }
  return a + "," + b;
}

/** What is new to one who knows `marks`: id -> fingerprint, "" once deleted. */
function news(marks, event, items) {
  const messages = [];
  for (const item of items) {
    const id = item.id ?? item; // a delete has bare ids
    const mark = event === "delete" ? "" : fingerprint(item);
    const known = marks.get(id);
    marks.delete(id);
    marks.set(id, mark);
    if (marks.size > LIMIT) marks.delete(marks.keys().next().value);
    if (known === mark) continue;
    const told = !mark || known === undefined ? event : known ? "update" : "create";
    if (messages.at(-1)?.event !== told) messages.push({ event: told, data: [] });
    messages.at(-1).data.push(item);
  }
  return messages;
}

/** Unread messages, folded: one init, then of each id at most a delete and a row. */
class Mailbox {
  delete = new Map();
  create = new Map();
  update = new Map();

  put(message) {
    const { event, data } = message;
    const { create, update } = this;
    if (event === "init") {
      while (this.take());
      this.init = message;
      return true;
    }
    for (const item of data) {
      const id = item.id ?? item;
      const kind = event === "update" && create.has(id) ? "create" : event;
      create.delete(id);
      update.delete(id);
      this[kind].set(id, item);
    }
    return this.delete.size + create.size + update.size <= LIMIT;
  }

  take() {
    const { init } = this;
    this.init = undefined;
    if (init) return init;
    for (const event of CHANGES) {
      const data = [...this[event].values()];
      this[event].clear();
      if (data.length) return { event, data };
    }
  }
}

export function connect(url, options) {
  const window = options?.window ?? globalThis;
  options = {
    WebSocket: window.WebSocket,
    clock: window,
    random: Math.random,
    transport: webSocket,
    heartbeatSeconds: 30,
    ...options,
    window,
    backoff: { min: 0.5, max: 30, ...options?.backoff },
  };
  const { clock, random, backoff } = options;
  const report = window.reportError ?? console.error;
  const address = new URL(url, window.location?.href);
  address.protocol = address.protocol.replace("http", "ws");

  const listeners = { status: new Set(), error: new Set() };
  const followed = new Map(); // uid -> entry
  let status = "connecting";
  let uids = 0;

  // Full jitter: clients do not return in one wave.
  const delay = (attempts) => random() * Math.min(backoff.max, backoff.min * 2 ** attempts);

  function call(listener, value) {
    try {
      listener(value)?.catch?.(report);
    } catch (error) {
      report(error);
    }
  }

  function emit(name, value) {
    listeners[name].forEach((listener) => call(listener, value));
  }

  function become(next) {
    if (status === next) return;
    status = next;
    emit("status", status);
  }

  function fail(code, message, subscription) {
    const error = Object.assign(new Error(message), { code, subscription });
    if (listeners.error.size) emit("error", error);
    else console.error(error);
    return error;
  }

  function ask(entry) {
    clock.clearTimeout(entry.timer);
    const { request, uid, cursor } = entry;
    connection.send({ ...request, uid, cursor });
  }

  /** Asks later; drops what still comes for the old uid. */
  function restart(entry) {
    end(entry);
    follow(entry);
    entry.timer = clock.setTimeout(() => ask(entry), delay(entry.attempts++) * 1000);
  }

  function follow(entry) {
    entry.uid = String(++uids);
    followed.set(entry.uid, entry);
  }

  function end(entry, error) {
    clock.clearTimeout(entry.timer);
    followed.delete(entry.uid);
    entry.error = error;
    entry.wake?.();
  }

  function close(error) {
    connection.close();
    followed.forEach((entry) => end(entry, error));
    become("closed");
  }

  function deliver(entry, message) {
    if (!followed.has(entry.uid)) return;
    if (entry.handler) return call(entry.handler, message);
    if (!entry.mailbox.put(message)) {
      // Too many to tell one by one: ask for a new base.
      while (entry.mailbox.take());
      connection.send({ type: "unsubscribe", uid: entry.uid });
      entry.cursor = undefined;
      restart(entry);
    }
    entry.wake?.();
  }

  function refuse(entry, type, { code, message }) {
    if (!entry || !/^subscri/.test(type)) return fail(code, message);
    const final = type === "subscribe" && /^(FORBIDDEN|INVALID)/.test(code);
    // What could be read and no longer can is a delete.
    const data = [...entry.marks.keys()].filter((id) => entry.marks.get(id));
    if (final && code === "FORBIDDEN" && data.length && !entry.request.event) {
      deliver(entry, { event: "delete", data });
    }
    const error = fail(code, message, entry.subscription);
    if (!followed.has(entry.uid)) return;
    if (final) return end(entry, error);
    if (type === "subscription") entry.cursor = undefined;
    restart(entry);
  }

  function receive(frame) {
    const { type, event, uid, data, meta, reset, cursor } = frame;
    const entry = followed.get(uid);
    if (!type) throw new Error("no type");
    if (type === "ping") connection.send({ type: "pong" });
    if (frame.status === "error") return refuse(entry, type, frame.error);
    if (type !== "subscription" || !entry) return;

    entry.cursor = cursor;
    if (event === "init") {
      const message = { event, data: data ?? [] };
      if (meta) message.meta = meta;
      if (reset || entry.started) message.reset = reset ?? "restarted";
      entry.started = true;
      entry.marks.clear();
      news(entry.marks, "create", [message.data].flat());
      deliver(entry, message);
    } else if (CHANGES.includes(event)) {
      entry.attempts = 0;
      // Creates alone, or deletes alone, do not tell what lies between two.
      const marks = /create|delete/.test(entry.request.event) ? new Map() : entry.marks;
      for (const message of news(marks, event, data)) deliver(entry, message);
    }
  }

  const connection = keepOpen(address.href, options, delay, {
    opened() {
      followed.forEach(ask);
      become("connected");
    },
    received(text) {
      try {
        receive(JSON.parse(text));
      } catch (error) {
        fail("MALFORMED_FRAME", error.message);
      }
    },
    lost: () => become("reconnecting"),
    refused: (code) => close(fail(code, "refused by the server")),
    error: fail,
  });

  async function* read(entry) {
    try {
      while (entry.error || followed.has(entry.uid)) {
        const message = entry.mailbox.take();
        if (message) yield message;
        else if (entry.error) throw entry.error;
        else await new Promise((resolve) => (entry.wake = resolve));
      }
    } finally {
      entry.subscription.unsubscribe();
    }
  }

  function subscribe(path, query, handler, choices) {
    if (typeof handler !== "function") [handler, choices] = [undefined, handler];
    const [collection, key] = path.split("/");
    const item = /^\d+$/.test(key) ? Number(key) : key;
    // The caller may change its query.
    const asked = { type: "subscribe", collection, item, query: query ?? undefined, ...choices };
    const request = JSON.parse(JSON.stringify(asked));
    const subscription = {
      unsubscribe() {
        if (!followed.has(entry.uid)) return;
        connection.send({ type: "unsubscribe", uid: entry.uid });
        end(entry);
      },
    };
    const entry = { request, handler, subscription, attempts: 0, marks: new Map() };
    if (!handler) {
      entry.mailbox = new Mailbox();
      const messages = read(entry);
      subscription[Symbol.asyncIterator] = () => messages;
    }
    if (status !== "closed") {
      follow(entry);
      ask(entry);
    }
    return subscription;
  }

  function on(name, listener) {
    listeners[name].add(listener);
    return () => listeners[name].delete(listener);
  }

  return {
    subscribe,
    on,
    close: () => close(),
    get status() {
      return status;
    },
  };
}

// <script type="module" src=".../wagtail-live.js" data-url="/websocket"> binds markup.
for (const { src, dataset } of globalThis.document?.scripts ?? []) {
  if (src !== import.meta.url || !dataset.url) continue;
  import("./wagtail-live-dom.js")
    .then(({ bind }) => bind(connect, { url: dataset.url, root: document }))
    .catch(console.error);
  break;
}
