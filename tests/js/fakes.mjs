// Test doubles for the client: a clock, a window and a server, all passed in through options.

import { connect } from "../../wagtail_live/static/wagtail_live/wagtail-live.js";

export class FakeClock {
  now = 0;
  timers = new Map();
  ids = 0;

  setTimeout = (action, milliseconds) => {
    this.timers.set(++this.ids, { action, due: this.now + milliseconds });
    return this.ids;
  };

  clearTimeout = (id) => this.timers.delete(id);

  /** Seconds until the next timer, or undefined. */
  get next() {
    const due = Math.min(...[...this.timers.values()].map((timer) => timer.due));
    return Number.isFinite(due) ? (due - this.now) / 1000 : undefined;
  }

  pass(seconds) {
    const end = this.now + seconds * 1000;
    for (;;) {
      const [id, timer] = [...this.timers].sort((a, b) => a[1].due - b[1].due)[0] ?? [];
      if (!timer || timer.due > end) break;
      this.timers.delete(id);
      this.now = timer.due;
      timer.action();
    }
    this.now = end;
  }
}

export class FakeWindow extends EventTarget {
  document = Object.assign(new EventTarget(), { hidden: false });
  navigator = { onLine: true };
  location = { href: "https://www.example.com/news/" };
  reported = [];
  reportError = (error) => this.reported.push(error);

  fire(type, properties) {
    this.dispatchEvent(Object.assign(new Event(type), properties));
  }

  show(hidden = false) {
    this.document.hidden = hidden;
    this.document.dispatchEvent(new Event("visibilitychange"));
  }
}

/** What the client sees of one connection, and the server's hand on it. */
export class FakeSocket {
  sent = [];
  isOpen = false;
  isClosed = false;

  constructor(url) {
    this.url = url;
  }

  send(text) {
    if (!this.isOpen) throw new Error("InvalidStateError");
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.isOpen = false;
    this.isClosed = true;
  }

  accept() {
    this.isOpen = true;
    this.onopen?.({});
  }

  say(...frames) {
    for (const frame of frames) this.hear(JSON.stringify(frame));
  }

  hear(data) {
    this.onmessage?.({ data });
  }

  drop(code = 1006) {
    this.close();
    this.onclose?.({ code });
  }

  /** The frames the client sent since the last call. */
  take() {
    return this.sent.splice(0);
  }
}

/** A client in a fake world, without fallback. `random` is 1: every wait is as long as it can be. */
export function world(options = {}) {
  const sockets = [];
  class WebSocket extends FakeSocket {
    constructor(url) {
      super(url);
      sockets.push(this);
    }
  }
  const clock = new FakeClock();
  const window = options.window ?? new FakeWindow();
  const statuses = [];
  const errors = [];
  const live = connect(options.url ?? "wss://cms.example.com/websocket", {
    WebSocket,
    clock,
    random: () => 1,
    eventsUrl: null,
    ...options,
    window,
  });
  live.on("status", (status) => statuses.push(status));
  live.on("error", (error) => errors.push(error));
  return {
    live,
    clock,
    window,
    sockets,
    statuses,
    errors,
    get socket() {
      return sockets.at(-1);
    },
    /** Accepts the newest connection; answers what the client sent at once. */
    accept() {
      sockets.at(-1).accept();
      return sockets.at(-1).take();
    },
  };
}

/** A connected client with one subscription that has had its init; `messages` come after it. */
export function following(rows = [], { path = "pages", event, ...options } = {}) {
  const it = world(options);
  it.messages = [];
  it.subscription = it.live.subscribe(path, {}, (message) => it.messages.push(message), { event });
  const [{ uid }] = it.accept();
  it.uid = uid;
  it.change = (event, data, cursor = "c") =>
    it.socket.say({ type: "subscription", event, data, uid: it.uid, cursor });
  it.change("init", rows, "c0");
  it.messages.length = 0;
  return it;
}

/** Lets waiting iterators go on. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));
