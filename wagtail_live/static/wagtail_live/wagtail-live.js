// Manual: docs/reference/client.md

const LIMIT = 10_000;
const CHANGES = ["delete", "create", "update"];

function webSocket(url, { WebSocket, auth }, { opened, received, lost }) {
  const socket = new WebSocket(url);
  socket.onopen = async () => {
    try {
      const message = auth && (await auth());
      if (message) socket.send(JSON.stringify({ type: "auth", ...message }));
      socket.onopen && opened();
    } catch ({ message }) {
      socket.onopen && lost("CONNECTION_FAILED", message);
    }
  };
  socket.onmessage = ({ data }) => received(data);
  socket.onclose = ({ code }) => lost(code);
  return {
    send: (text) => socket.send(text),
    close() {
      // Its own may come late.
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    },
  };
}

function eventStream(url, options, events) {
  let link, isClosed;
  import("./wagtail-live-events.js")
    .then((module) => isClosed || (link = module.eventStream(url, options, events)))
    .catch(({ message }) => isClosed || events.lost("CONNECTION_FAILED", message));
  return {
    send: (text) => link.send(text),
    close() {
      isClosed = true;
      link?.close();
    },
  };
}

/** Keeps a link open. Knows nothing of subscriptions. */
function keepOpen(url, options, delay, on) {
  const { window, clock, transport, eventsUrl, heartbeatSeconds, backoff } = options;
  const { document, navigator } = window;
  const listening = new AbortController();
  let link, isOpen, isHeard, isStream, timer, stable, patient;
  let attempts = 0;
  let misses = 0; // links in a row that brought nothing

  // The watch over a link, or the next attempt.
  function after(seconds, action) {
    clock.clearTimeout(timer);
    timer = clock.setTimeout(action, seconds * 1000);
  }
  const watch = () => after(heartbeatSeconds * 2.5, lost);
  const offline = () => navigator?.onLine === false;
  const start = () => (offline() ? after(backoff.max, open) : open());

  function open() {
    after(10, lost);
    // After two misses they take turns.
    isStream = misses && !(misses % 2) && eventsUrl !== null;
    try {
      const connect = transport ?? (isStream ? eventStream : webSocket);
      link = connect(url, options, { opened, received, lost, followed: on.followed });
    } catch ({ message }) {
      lost("CONNECTION_FAILED", message);
    }
  }

  function opened() {
    watch();
    isOpen = true;
    stable = clock.setTimeout(() => {
      attempts = 0;
      misses &&= 1;
    }, 10_000);
    on.opened();
  }

  function received(text) {
    watch();
    isHeard = true;
    if (!isStream) misses = 0;
    on.received(text);
  }

  function drop() {
    clock.clearTimeout(timer);
    clock.clearTimeout(stable);
    link?.close();
    link = isOpen = isHeard = undefined;
  }

  function lost(code, message) {
    const wait = delay(attempts++, isHeard);
    if (!isHeard) misses++;
    const final = code === 4403 || (code === 4401 && !isHeard);
    drop();
    if (final) return on.refused(code);
    if (message) on.error(code, message);
    patient = code === 1009 || code === 4429;
    after(offline() ? backoff.max : Math.max(wait, (patient * backoff.max) / 2), open);
    on.lost();
  }

  function send(message) {
    if (isOpen) link.send(JSON.stringify(message));
  }

  function wake() {
    misses &&= 1;
    if (link) {
      send({ type: "ping" });
      after(5, lost);
    } else if (!patient && !offline()) open();
  }

  function listen(target, type, action) {
    target?.addEventListener?.(type, action, { signal: listening.signal });
  }
  listen(window, "online", wake);
  listen(document, "visibilitychange", () => document.hidden || wake());
  // A link bars the back/forward cache.
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

/** What is new. `marks`: id -> fingerprint, "" once deleted. */
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

/** Unread messages, folded by id. */
class Mailbox {
  delete = new Map();
  create = new Map();
  update = new Map();

  put(message) {
    const { event, data } = message;
    if (event === "init") {
      while (this.take());
      this.init = message;
      return true;
    }
    for (const item of data) {
      const id = item.id ?? item;
      const kind = event === "update" && this.create.has(id) ? "create" : event;
      this.create.delete(id);
      this.update.delete(id);
      this[kind].set(id, item);
    }
    return this.delete.size + this.create.size + this.update.size <= LIMIT;
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
    heartbeatSeconds: 30,
    ...options,
    window,
    backoff: { min: 0.5, max: 30, ...options?.backoff },
  };
  const { clock, random, backoff } = options;
  const report = window.reportError ?? console.error;
  url = new URL(url, window.location?.href).href.replace(/^http/, "ws");

  const listeners = { status: new Set(), error: new Set() };
  const followed = new Map(); // uid -> entry
  let status = "connecting";
  let uids = 0;
  let spread = 0; // seconds to return in

  const delay = (attempts, isReturn) =>
    random() * Math.max(isReturn ? spread : 0, Math.min(backoff.max, backoff.min * 2 ** attempts));

  async function call(listener, value) {
    try {
      await listener(value);
    } catch (error) {
      report(error);
    }
  }

  function emit(name, value) {
    listeners[name].forEach((listener) => call(listener, value));
  }

  function become(next) {
    if (status !== next) emit("status", (status = next));
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

  /** Asks later; drops what is under way. */
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
        while (entry.mailbox.take());
      connection.send({ type: "unsubscribe", uid: entry.uid });
      entry.cursor = undefined;
      restart(entry);
    }
    entry.wake?.();
  }

  function refuse(entry, type, { code, message }) {
    if (!entry || !/^sub/.test(type)) return fail(code, message);
    const final = /^(FORBIDDEN|INVALID)/.test(code);
    // What cannot be read is deleted.
    const data = [...entry.marks.keys()].filter((id) => entry.marks.get(id));
    if (code === "FORBIDDEN" && data.length && !entry.request.event) {
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
    spread = frame.reconnect_seconds ?? spread;
    const entry = followed.get(uid);
    if (!type) throw new Error("no type");
    if (type === "ping") connection.send({ type: "pong" });
    if (frame.status === "error") return refuse(entry, type, frame.error);
    if (type !== "subscription" || !entry) return;

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
      // Between creates lie deletes untold.
      const marks = /create|delete/.test(entry.request.event) ? new Map() : entry.marks;
      for (const message of news(marks, event, data)) deliver(entry, message);
    }
    // Never before it is told.
    if (followed.has(uid)) entry.cursor = cursor ?? entry.cursor;
  }

  const connection = keepOpen(url, options, delay, {
    opened() {
      followed.forEach(ask);
      become("connected");
    },
    received(text) {
      try {
        receive(JSON.parse(text));
      } catch ({ message }) {
        fail("MALFORMED_FRAME", message);
      }
    },
    lost: () => become("reconnecting"),
    refused: (code) => close(fail(code, "refused by the server")),
    followed,
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
    // Callers may change it.
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

// A script tag with data-url binds markup.
for (const { src, dataset } of globalThis.document?.scripts ?? []) {
  if (src !== import.meta.url || !dataset.url) continue;
  import("./wagtail-live-dom.js")
    .then(({ bindPage }) => bindPage(connect, dataset))
    .catch(console.error);
  break;
}
