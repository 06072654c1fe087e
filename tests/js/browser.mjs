// A browser of one origin in the test's hand: tabs with locks and channels, and a server of streams.

import { connect } from "../../wagtail_live/static/wagtail_live/wagtail-live.js";
import { FakeClock, FakeSocket, FakeWindow, settle } from "./fakes.mjs";

const encoder = new TextEncoder();

/** Messages between tabs are faster than timers. */
async function quiet() {
  for (let i = 0; i < 6; i++) await settle();
}

/** One request for a stream, as the server has it. */
class Request {
  isGone = false;

  constructor(address, { body, signal, ...rest }, answer, refuse) {
    Object.assign(this, { address, rest, answer, refuse });
    this.messages = JSON.parse(body);
    signal.addEventListener("abort", () => this.cut(signal.reason));
  }

  /** Sends the headers and, as the server does, advice and a comment at once. */
  begin(first = "retry: 700\n\n: ping\n\n") {
    const body = new ReadableStream({ start: (stream) => (this.stream = stream) });
    const headers = { "Content-Type": "text/event-stream; charset=utf-8" };
    this.answer(new Response(body, { headers }));
    if (first) this.raw(first);
    return this;
  }

  raw(text) {
    this.stream.enqueue(typeof text === "string" ? encoder.encode(text) : text);
  }

  say(...frames) {
    for (const frame of frames) {
      this.raw(`${frame.cursor ? `id: ${frame.cursor}\n` : ""}data: ${JSON.stringify(frame)}\n\n`);
    }
  }

  end() {
    this.isGone = true;
    this.stream.close();
  }

  refuseWith(status, body = "") {
    this.isGone = true;
    this.answer(new Response(body && JSON.stringify(body), { status }));
  }

  cut(reason = new TypeError("network error")) {
    if (this.isGone) return;
    this.isGone = true;
    this.refuse(reason);
    this.stream?.error(reason);
  }
}

class Lock {
  holder = undefined;
  queue = [];
}

class Tab extends FakeWindow {
  isFrozen = false;
  isGone = false;
  queue = [];
  clock = new FakeClock();
  sockets = [];
  channels = new Set();

  constructor(browser) {
    super();
    const tab = this;
    this.browser = browser;
    this.navigator.locks = { request: (...all) => browser.lock(tab, ...all) };
    this.fetch = (address, init) =>
      new Promise((answer, refuse) => {
        if (tab.isGone) return;
        const request = new Request(address, init, answer, refuse);
        request.tab = tab;
        browser.requests.push(request);
      });
    this.WebSocket = class extends FakeSocket {
      constructor(url) {
        super(url);
        tab.sockets.push(this);
        if (browser.isBlocked) queueMicrotask(() => this.onclose && this.drop());
      }
    };
    this.BroadcastChannel = class {
      constructor(name) {
        Object.assign(this, { name, tab });
        tab.channels.add(this);
      }

      postMessage(data) {
        browser.carry(this, structuredClone(data));
      }

      close() {
        tab.channels.delete(this);
      }
    };
  }

  /** Runs now, or when the tab thaws; never in one that is gone. */
  run(action) {
    if (this.isGone) return;
    if (this.isFrozen) this.queue.push(action);
    else action();
  }

  freeze() {
    this.isFrozen = true;
  }

  thaw() {
    this.isFrozen = false;
    this.queue.splice(0).forEach((action) => action());
  }

  /** Goes without a word. */
  crash() {
    this.isGone = true;
    this.channels.clear();
    this.clock.timers.clear();
    this.browser.release(this);
    for (const request of this.browser.requests) if (request.tab === this) request.cut();
  }
}

export class Browser {
  requests = [];
  tabs = [];
  locks = new Map();
  isBlocked = true; // no WebSocket gets through

  /** A tab with a client that follows `collections`; `messages` are what the application is told. */
  open(collections = ["pages"], { without = [], ...options } = {}) {
    const tab = new Tab(this);
    for (const name of without) {
      if (name === "locks") delete tab.navigator.locks;
      else delete tab[name];
    }
    this.tabs.push(tab);
    tab.live = connect("wss://cms.example.com/websocket", {
      clock: tab.clock,
      random: () => 1,
      window: tab,
      ...options,
    });
    tab.statuses = [];
    tab.errors = [];
    tab.messages = [];
    tab.live.on("status", (status) => tab.statuses.push(status));
    tab.live.on("error", (error) => tab.errors.push(error));
    tab.follow = (collection) =>
      tab.live.subscribe(collection, {}, (message) => tab.messages.push(message));
    tab.subscriptions = collections.map(tab.follow);
    return tab;
  }

  /** The streams that somebody still reads. */
  get streams() {
    return this.requests.filter((request) => !request.isGone);
  }

  get request() {
    return this.requests.at(-1);
  }

  async pass(seconds) {
    const running = () => this.tabs.filter((tab) => !tab.isGone && !tab.isFrozen);
    for (let left = seconds; left > 1e-9; left -= 0.05) {
      await quiet();
      for (const tab of running()) tab.clock.pass(Math.min(left, 0.05));
    }
    await quiet();
  }

  /** Waits, at most half a minute of the tabs' time, until `condition()` is true. */
  async until(condition) {
    for (let i = 0; i < 600; i++) {
      await quiet();
      if (condition()) return;
      await this.pass(0.05);
    }
    throw new Error(`never came true: ${condition}`);
  }

  /** Answers the next request that nobody has answered, and those before one with `count` messages. */
  async accept(count) {
    let request;
    do {
      await this.until(() => this.streams.some((one) => !one.stream));
      request = this.streams.findLast((one) => !one.stream).begin();
      await settle();
    } while (count && request.messages.length !== count);
    return request;
  }

  carry(from, data) {
    if (from.tab.isGone) return;
    for (const tab of this.tabs) {
      for (const channel of tab.channels) {
        if (channel === from || channel.name !== from.name) continue;
        setImmediate(() =>
          tab.run(() => tab.channels.has(channel) && channel.onmessage?.({ data })),
        );
      }
    }
  }

  lock(tab, name, { signal, steal } = {}, callback) {
    if (!this.locks.has(name)) this.locks.set(name, new Lock());
    const lock = this.locks.get(name);
    return new Promise((resolve, reject) => {
      if (steal && signal) return reject(new DOMException("", "NotSupportedError"));
      const asked = { tab, callback, resolve, reject };
      signal?.addEventListener("abort", () => {
        if (!lock.queue.includes(asked)) return;
        lock.queue.splice(lock.queue.indexOf(asked), 1);
        reject(signal.reason);
      });
      if (steal) {
        const before = lock.holder;
        before?.tab.run(() => before.reject(new DOMException("stolen", "AbortError")));
        lock.holder = undefined;
        lock.queue.unshift(asked);
      } else lock.queue.push(asked);
      this.grant(lock);
    });
  }

  grant(lock) {
    if (lock.holder || !lock.queue.length) return;
    const asked = (lock.holder = lock.queue.shift());
    setImmediate(() =>
      asked.tab.run(async () => {
        const value = await asked.callback({});
        if (lock.holder === asked) {
          lock.holder = undefined;
          this.grant(lock);
        }
        asked.resolve(value);
      }),
    );
  }

  release(tab) {
    for (const lock of this.locks.values()) {
      lock.queue = lock.queue.filter((asked) => asked.tab !== tab);
      if (lock.holder?.tab === tab) lock.holder = undefined;
      this.grant(lock);
    }
  }
}
