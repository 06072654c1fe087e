// Once and in order per object, or a reset: random histories of writes and broken connections.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser } from "./browser.mjs";
import { FakeClock, FakeSocket, FakeWindow, settle } from "./fakes.mjs";
import { connect } from "../../wagtail_live/static/wagtail_live/wagtail-live.js";

const IDS = 7;

/** Numbers below `n` from `seed` on: the same in each run. */
function randomFrom(seed) {
  let state = (seed * 2654435761) >>> 0 || 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

/** Content with a log, as the server has them: a row is read when it is told, not when it changed. */
class Content {
  rows = new Map();
  log = []; // of each position the ids that changed, and which of them there were before
  versions = 0;

  constructor(random) {
    this.random = random;
    for (let i = 0; i < 10; i++) this.write();
  }

  write() {
    const ids = new Set(Array.from({ length: 1 + this.random(3) }, () => this.random(IDS)));
    this.log.push(new Map([...ids].map((id) => [id, this.rows.has(id)])));
    for (const id of ids) {
      if (this.rows.has(id) && !this.random(3)) this.rows.delete(id);
      else this.rows.set(id, { id, version: ++this.versions });
    }
  }

  /** The frames of all after `position`, in any order of the ids; only the last has the cursor. */
  since(position, uid) {
    const before = new Map();
    const seen = new Set(); // what came and went is a delete too: half of its change may be known
    for (const ids of this.log.slice(position)) {
      for (const [id, was] of ids) {
        if (!before.has(id)) before.set(id, was);
        if (was) seen.add(id);
      }
    }
    const ids = [...before.keys()].sort(() => this.random(3) - 1);
    const there = ids.filter((id) => this.rows.has(id));
    const rows = (was) => there.filter((id) => before.get(id) === was).map((id) => this.rows.get(id));
    const frames = [
      ["delete", ids.filter((id) => !this.rows.has(id) && seen.has(id))],
      ["create", rows(false)],
      ["update", rows(true)],
    ]
      .filter(([, data]) => data.length)
      .map(([event, data]) => ({ type: "subscription", event, data: structuredClone(data), uid }));
    if (frames.length) frames.at(-1).cursor = String(this.log.length);
    return frames;
  }

  base(uid, reset) {
    const data = structuredClone([...this.rows.values()]);
    const cursor = String(this.log.length);
    return { type: "subscription", event: "init", data, uid, cursor, ...(reset && { reset }) };
  }

  /** What answers a `subscribe`, and from where on it is live. */
  answer({ uid, cursor }) {
    if (cursor === undefined) return [this.base(uid)];
    assert.ok(Number(cursor) <= this.log.length);
    if (!this.random(8)) return [this.base(uid, "expired")];
    const frames = this.since(Number(cursor), uid);
    const resume = { type: "subscription", event: "resume", uid };
    if (!frames.length) resume.cursor = String(this.log.length);
    return [resume, ...frames];
  }
}

/** One subscription on one connection, as the server serves it: frames wait until they are sent. */
class Served {
  constructor(content, asked) {
    this.content = content;
    this.uid = asked.uid;
    this.queue = content.answer(asked);
    this.told = content.log.length;
    this.repeat();
  }

  /** The join may tell again what the answer told. */
  repeat() {
    const { random, log } = this.content;
    if (random(2)) return;
    this.queue.push(...this.content.since(Math.max(0, log.length - random(4)), this.uid));
  }

  follow() {
    if (this.told === this.content.log.length) return;
    this.queue.push(...this.content.since(this.told, this.uid));
    this.told = this.content.log.length;
  }
}

/** What an application makes of its messages; fails where one is told twice or too late. */
class Application {
  rows = new Map();
  newest = new Map(); // id -> version that was told last, since the last base
  inits = 0;

  receive = ({ event, data, reset }) => {
    if (event === "init") {
      assert.equal(this.inits++ > 0, reset !== undefined, "a base after the first says why");
      this.rows = new Map(data.map((row) => [row.id, row]));
      this.newest = new Map(data.map((row) => [row.id, row.version]));
      return;
    }
    for (const item of data) {
      if (event === "delete") {
        assert.ok(this.rows.delete(item) || !this.newest.has(item), `a delete of ${item}, twice`);
        this.newest.set(item, this.newest.get(item) ?? 0);
        continue;
      }
      const { id, version } = item;
      if (this.newest.has(id)) {
        assert.equal(event === "update", this.rows.has(id), `${event} of ${id}`);
        assert.ok(version > this.newest.get(id), `version ${version} of ${id} after a newer one`);
      }
      this.rows.set(id, item);
      this.newest.set(id, version);
    }
  };

  equals(content) {
    const sorted = (rows) => [...rows.values()].sort((a, b) => a.id - b.id);
    assert.deepEqual(sorted(this.rows), sorted(content.rows));
  }
}

/** Serves what is asked on a WebSocket. */
function overSocket(seed) {
  const random = randomFrom(seed);
  const content = new Content(random);
  const clock = new FakeClock();
  const sockets = [];
  class WebSocket extends FakeSocket {
    constructor(url) {
      super(url);
      sockets.push(this);
    }
  }
  const application = new Application();
  const errors = [];
  const options = { WebSocket, clock, window: new FakeWindow(), random: () => 0.5, eventsUrl: null };
  const live = connect("ws://localhost/websocket", options);
  live.on("error", (error) => errors.push(error));
  live.subscribe("pages", {}, application.receive);

  let served = [];
  const socket = () => sockets.at(-1);
  const serve = () => {
    for (const message of socket().take()) {
      if (message.type === "subscribe") served.push(new Served(content, message));
    }
  };
  function send(count) {
    serve();
    for (const one of served) {
      one.follow();
      socket().say(...one.queue.splice(0, count));
    }
  }
  function join() {
    while (socket().isClosed) clock.pass(clock.next);
    if (!socket().isOpen) socket().accept();
    serve();
  }
  join();
  for (let step = 0; step < 60; step++) {
    const chance = random(12);
    if (chance < 5) content.write();
    else if (chance < 9) send(random(3));
    else if (chance === 9 && served.length) {
      // The server gives one up: whatever waited is never sent.
      const { uid } = served.pop();
      const error = { code: "SERVICE_UNAVAILABLE", message: "Later." };
      socket().say({ type: "subscription", status: "error", error, uid });
      clock.pass(clock.next ?? 0);
    } else {
      served = [];
      socket().drop(random(2) ? 1006 : 1012);
      join();
    }
  }
  for (let i = 0; i < 9; i++) {
    join();
    clock.pass(4);
    send(99);
  }
  application.equals(content);
  return application.inits;
}

test("on WebSockets, whatever breaks and whatever is repeated", () => {
  let inits = 0;
  for (let seed = 1; seed <= 300; seed++) {
    try {
      inits += overSocket(seed);
    } catch (error) {
      error.message += ` (seed ${seed})`;
      throw error;
    }
  }
  assert.ok(inits > 300, "resets were among them");
});

/** The same on event streams, for tabs that come and go and share one. */
async function overStreams(seed) {
  const random = randomFrom(seed);
  const content = new Content(random);
  const browser = new Browser();
  const tabs = [];
  function open() {
    const tab = browser.open([], { random: () => 0.5 });
    tab.application = new Application();
    tab.live.subscribe("pages", {}, tab.application.receive);
    tabs.push(tab);
  }
  open();
  open();

  function serve(count) {
    for (const request of browser.streams) {
      if (!request.stream) request.begin();
      request.served ??= request.messages.map((message) => new Served(content, message));
      for (const one of request.served) {
        one.follow();
        request.say(...one.queue.splice(0, count));
      }
    }
  }
  for (let step = 0; step < 40; step++) {
    const chance = random(16);
    const { request } = browser;
    if (chance < 5) content.write();
    else if (chance < 10) serve(random(3));
    else if (chance === 10 && request && !request.isGone) request.cut();
    else if (chance === 11 && request?.stream && !request.isGone) {
      request.raw("retry: 10\n\n");
      request.end();
    } else if (chance === 12 && tabs.length > 1) {
      const [tab] = tabs.splice(random(tabs.length), 1);
      if (random(2)) tab.crash();
      else tab.live.close();
    } else if (chance === 13 && tabs.length < 4) open();
    else if (chance === 14) {
      const tab = tabs[random(tabs.length)];
      tab.fire("pagehide", { persisted: true });
      await settle();
      tab.fire("pageshow", { persisted: true });
    } else await browser.pass(0.3);
    await settle();
  }
  const isEven = () => {
    serve(99);
    return tabs.every(({ application: { inits, rows } }) => inits && rows.size === content.rows.size);
  };
  await browser.until(isEven);
  for (let i = 0; i < 12; i++) {
    await browser.pass(0.5);
    serve(99);
  }
  await browser.pass(0.1);
  for (const tab of tabs) {
    tab.application.equals(content);
    assert.deepEqual(tab.reported, []);
    tab.live.close();
  }
  assert.equal(browser.streams.length <= 1, true);
}

test("on event streams that tabs share, whatever tab goes", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    try {
      await overStreams(seed);
    } catch (error) {
      error.message += ` (seed ${seed})`;
      throw error;
    }
  }
});
