// The event stream: when the client turns to it, how it reads it, and how tabs share one.

import assert from "node:assert/strict";
import { test } from "node:test";

import { streamParser } from "../../wagtail_live/static/wagtail_live/wagtail-live-events.js";
import { Browser } from "./browser.mjs";
import { settle } from "./fakes.mjs";

const row = (id, title = "A") => ({ id, title });

/** The frames that answer what a request asks, from empty bases on. */
const inits = (request, data = []) =>
  request.messages.map(({ uid }) => ({
    type: "subscription", event: "init", data, uid, cursor: `c0-${uid}`, reconnect_seconds: 1,
  }));

const uidOf = (request, collection) =>
  request.messages.find((message) => message.collection === collection).uid;

const change = (uid, event, data, cursor) => ({ type: "subscription", event, data, uid, cursor });

function parsed(...pieces) {
  const told = [];
  const parse = streamParser({
    data: (text) => told.push(text),
    comment: () => told.push(":"),
    retry: () => told.push("retry"),
  });
  pieces.forEach(parse);
  return told;
}

test("reads comments, advice and data, whatever the ends of the lines", () => {
  const text = "retry: 5\n\n: ping\n\nid: c\nevent: x\ndata: {}\n\ndata:a\ndata:  b\ndata\n\n";
  const told = ["retry", ":", "{}", "a\n b\n"];
  assert.deepEqual(parsed(text), told);
  assert.deepEqual(parsed(text.replaceAll("\n", "\r\n")), told);
  assert.deepEqual(parsed(text.replaceAll("\n", "\r")), told);
});

test("reads a stream that was split anywhere", () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const text = ["data: one", "", ": ping", "data: two", "data: three", "", ""].join(end);
    const told = ["one", ":", "two\nthree"];
    assert.deepEqual(parsed(...text), told);
    for (let i = 0; i < text.length; i++) {
      assert.deepEqual(parsed(text.slice(0, i), text.slice(i)), told);
    }
  }
});

test("an event that was cut off is not told", () => {
  assert.deepEqual(parsed("data: one\n\ndata: tw"), ["one"]);
  assert.deepEqual(parsed("data: one\n\ndata: two\n"), ["one"]);
});

test("a line without an end is not kept for ever", () => {
  const parse = streamParser({});
  assert.throws(() => {
    for (let i = 0; i < 40; i++) parse("x".repeat(2 ** 20));
  }, /without an end/);
});

test("after two sockets that do not open it turns to the stream, and the application sees nothing of it", async () => {
  const browser = new Browser();
  const tab = browser.open(["pages", "images"]);
  const request = await browser.accept();
  assert.equal(tab.sockets.length, 2);
  assert.equal(request.address, "https://cms.example.com/live/events/");
  assert.equal(request.rest.method, "POST");
  assert.equal(request.rest.credentials, "include");
  assert.deepEqual(
    request.messages.map(({ type, collection }) => [type, collection]),
    [["subscribe", "pages"], ["subscribe", "images"]],
  );
  await browser.until(() => tab.live.status === "connected");
  request.say(...inits(request, [row(1)]));
  request.say(change(uidOf(request, "pages"), "update", [row(1, "B")], "c1"));
  await settle();
  assert.deepEqual(tab.messages, [
    { event: "init", data: [row(1)] },
    { event: "init", data: [row(1)] },
    { event: "update", data: [row(1, "B")] },
  ]);
  assert.deepEqual(tab.errors, []);
  assert.deepEqual(tab.statuses, ["reconnecting", "connected"]);
});

test("a handshake that hangs is a miss, and so is a socket that is cut before it brings anything", async () => {
  for (const act of [() => {}, (socket) => (socket.accept(), socket.drop())]) {
    const browser = new Browser();
    browser.isBlocked = false;
    const tab = browser.open();
    for (const count of [1, 2]) {
      act(tab.sockets[count - 1]);
      if (count < 2) await browser.until(() => tab.sockets.length > count);
    }
    await browser.accept();
    assert.equal(tab.sockets.length, 2);
  }
});

test("a socket that brought something is no reason for the stream", async () => {
  const browser = new Browser();
  browser.isBlocked = false;
  const tab = browser.open();
  for (let count = 1; count < 6; count++) {
    await browser.until(() => tab.sockets.length === count);
    tab.sockets.at(-1).accept();
    tab.sockets.at(-1).say({ type: "ping" });
    tab.sockets.at(-1).drop();
  }
  assert.deepEqual(browser.requests, []);
});

test("when neither gets through they take turns, so an outage strands nobody on the stream", async () => {
  const browser = new Browser();
  const tab = browser.open(["pages"], { backoff: { max: 1 } });
  for (const count of [2, 3, 4]) {
    await browser.until(() => browser.streams.length);
    assert.equal(tab.sockets.length, count);
    browser.request.cut();
  }
  browser.isBlocked = false;
  await browser.until(() => tab.sockets.length === 5);
  tab.sockets.at(-1).accept();
  assert.equal(tab.live.status, "connected");
});

test("comes back to the WebSocket when a stream that lasted is lost, and when the browser goes online", async () => {
  const browser = new Browser();
  const tab = browser.open();
  const first = await browser.accept();
  await browser.pass(11);
  first.end();
  await browser.until(() => tab.sockets.length === 3);
  assert.equal(browser.requests.length, 1);
  const second = await browser.accept();
  second.end(); // at once: the stream is tried again first
  await browser.accept();
  assert.equal(tab.sockets.length, 3);
  browser.request.end();
  await settle();
  tab.fire("online");
  assert.equal(tab.sockets.length, 4);
});

test("eventsUrl says where the stream is, null that there is none", async () => {
  for (const [eventsUrl, address] of [
    ["/cms/events/", "https://cms.example.com/cms/events/"],
    ["https://live.example.com/e/", "https://live.example.com/e/"],
  ]) {
    const browser = new Browser();
    browser.open(["pages"], { eventsUrl });
    assert.equal((await browser.accept()).address, address);
  }
  const browser = new Browser();
  const tab = browser.open(["pages"], { eventsUrl: null });
  await browser.until(() => tab.sockets.length === 5);
  assert.deepEqual(browser.requests, []);
});

test("an address that cannot be is told as an error, and the WebSocket goes on being tried", async () => {
  const browser = new Browser();
  const tab = browser.open(["pages"], { eventsUrl: "http://[" });
  await browser.until(() => tab.sockets.length === 3);
  assert.equal(tab.errors[0].code, "CONNECTION_FAILED");
});

test("heartbeats keep the stream, silence ends it", async () => {
  const browser = new Browser();
  const tab = browser.open(["pages"], { heartbeatSeconds: 4 });
  const request = await browser.accept();
  for (let i = 0; i < 5; i++) {
    await browser.pass(8);
    request.raw(": ping\n\n");
  }
  assert.equal(tab.live.status, "connected");
  await browser.pass(10.1);
  assert.equal(tab.live.status, "reconnecting");
  assert.ok(request.isGone);
});

for (const [held, seconds, act] of [
  ["what comes", 5.1, (request) => request.begin("")],
  ["even the headers", 8.1, () => {}],
]) {
  test(`a proxy that holds back ${held} is named, and tried again`, async () => {
    const browser = new Browser();
    const tab = browser.open();
    await browser.until(() => browser.streams.length);
    act(browser.request);
    await browser.pass(seconds);
    assert.equal(tab.errors[0].code, "STREAM_BUFFERED");
    assert.match(tab.errors[0].message, /proxy/);
    assert.ok(browser.request.isGone);
    assert.ok(!tab.statuses.includes("connected"));
    await browser.until(() => browser.requests.length === 2);
  });
}

const problem = (code) => ({ type: "server", status: "error", error: { code, message: "No." } });

for (const [status, body, code, closed, least] of [
  [403, problem("FORBIDDEN"), 4403, true],
  [403, "", "CONNECTION_FAILED", false],
  [400, problem("INVALID_PAYLOAD"), 1009, false, 15],
  [413, problem("INVALID_PAYLOAD"), 1009, false, 15],
  [429, "", undefined, false, 15],
  [404, "", "CONNECTION_FAILED", false],
  [501, problem("SERVICE_UNAVAILABLE"), "CONNECTION_FAILED", false],
  [502, "", undefined, false],
  [503, problem("SERVICE_UNAVAILABLE"), undefined, false],
  [200, "", "CONNECTION_FAILED", false],
]) {
  test(`status ${status} ${body ? "of the server" : "of a proxy"} means ${code ?? "nothing"} ${closed ? "and the end" : ""}`, async () => {
    const browser = new Browser();
    const tab = browser.open();
    await browser.until(() => browser.streams.length);
    browser.request.refuseWith(status, body);
    await settle();
    await settle();
    assert.deepEqual(tab.errors.map((error) => error.code), code ? [code] : []);
    assert.equal(tab.live.status, closed ? "closed" : "reconnecting");
    if (least) assert.ok(tab.clock.next >= least);
  });
}

test("what is subscribed to later opens the stream anew, once, with the newest cursors", async () => {
  const browser = new Browser();
  const tab = browser.open(["pages"]);
  const first = await browser.accept();
  first.say(...inits(first, [row(1)]));
  await browser.pass(1);
  first.say(change(uidOf(first, "pages"), "update", [row(1, "B")], "c7"));
  await settle();
  tab.follow("images");
  tab.follow("notices");
  tab.follow("sections").unsubscribe();
  const second = await browser.accept();
  assert.deepEqual(
    second.messages.map(({ collection, cursor }) => [collection, cursor]),
    [["pages", "c7"], ["images", undefined], ["notices", undefined]],
  );
  assert.ok(first.isGone);
  await browser.pass(1);
  assert.equal(browser.requests.length, 2);
  const uid = uidOf(second, "pages");
  tab.messages.length = 0;
  second.say({ type: "subscription", event: "resume", uid });
  second.say(change(uid, "update", [row(1, "B"), row(2)], "c8"));
  await settle();
  assert.deepEqual(tab.messages, [{ event: "update", data: [row(2)] }]);
  assert.deepEqual(tab.statuses, ["reconnecting", "connected"]);
});

test("a storm of subscriptions opens the stream twice a second at most", async () => {
  const browser = new Browser();
  const tab = browser.open();
  await browser.accept();
  const before = browser.requests.length;
  for (let i = 0; i < 40; i++) {
    tab.follow(`c${i}`);
    await browser.pass(0.05);
    if (browser.streams.some((request) => !request.stream)) browser.request.begin();
  }
  assert.ok(browser.requests.length - before <= 5, `${browser.requests.length - before}`);
});

test("what is unsubscribed is left out before long, and told no more from then on", async () => {
  const browser = new Browser();
  const tab = browser.open(["pages", "images"]);
  const first = await browser.accept();
  first.say(...inits(first));
  await settle();
  tab.messages.length = 0;
  tab.subscriptions[0].unsubscribe();
  first.say(change(uidOf(first, "pages"), "create", [row(1)], "c1"));
  await settle();
  assert.deepEqual(tab.messages, []);
  const second = await browser.accept();
  assert.deepEqual(second.messages.map(({ collection }) => collection), ["images"]);
});

test("a subscription that is refused is not asked again with the next opening", async () => {
  const browser = new Browser();
  const tab = browser.open(["pages", "secrets"]);
  const first = await browser.accept();
  const error = { code: "FORBIDDEN", message: "No." };
  first.say({ type: "subscribe", status: "error", error, uid: uidOf(first, "secrets") });
  await settle();
  assert.equal(tab.errors[0].code, "FORBIDDEN");
  tab.follow("images");
  const second = await browser.accept();
  assert.deepEqual(second.messages.map(({ collection }) => collection), ["pages", "images"]);
});

test("a stream that says goodbye is opened again at once, and nobody is told", async () => {
  const browser = new Browser();
  const tab = browser.open();
  const first = await browser.accept();
  first.say(...inits(first));
  await browser.pass(1);
  first.raw("retry: 10\n\n");
  first.end();
  await browser.accept();
  assert.equal(browser.request.messages[0].cursor.slice(0, 2), "c0");
  assert.deepEqual(tab.statuses, ["reconnecting", "connected"]);
});

test("a stream that was begun and is lost is opened again within the time that the server says", async () => {
  const browser = new Browser();
  const tab = browser.open();
  const first = await browser.accept();
  first.say({ ...inits(first)[0], reconnect_seconds: 20 });
  await settle();
  first.end();
  await settle();
  assert.equal(tab.live.status, "reconnecting");
  assert.equal(tab.clock.next, 20);
});

test("waking proves the stream: one that was not heard for long is opened anew", async () => {
  const browser = new Browser();
  const tab = browser.open();
  await browser.accept();
  tab.show();
  await browser.pass(1);
  assert.equal(browser.requests.length, 1);
  await browser.pass(11);
  tab.show();
  await browser.until(() => browser.requests.length === 2);
  browser.request.begin();
  await browser.pass(6);
  assert.equal(tab.live.status, "connected");
  await browser.pass(6);
  tab.show();
  await browser.pass(5.1);
  assert.equal(tab.live.status, "reconnecting");
});

test("close ends the stream, its timers and its locks", async () => {
  const browser = new Browser();
  const tab = browser.open();
  const request = await browser.accept();
  tab.live.close();
  await settle();
  await settle();
  assert.ok(request.isGone);
  assert.equal(tab.clock.timers.size, 0);
  assert.equal(tab.channels.size, 0);
  assert.ok([...browser.locks.values()].every((lock) => !lock.holder && !lock.queue.length));
});

test("a page put into the back/forward cache leaves the stream, and comes back from its cursor", async () => {
  const browser = new Browser();
  const tab = browser.open();
  const request = await browser.accept();
  request.say(...inits(request));
  await settle();
  tab.fire("pagehide", { persisted: true });
  await settle();
  assert.ok(request.isGone);
  assert.ok([...browser.locks.values()].every((lock) => !lock.holder && !lock.queue.length));
  tab.fire("pageshow", { persisted: true });
  assert.match((await browser.accept()).messages[0].cursor, /^c0/);
});

test("the tabs of an origin share one stream, and each hears its own", async () => {
  const browser = new Browser();
  const tabs = [browser.open(["pages"]), browser.open(["pages", "images"]), browser.open(["images"])];
  const request = await browser.accept();
  assert.equal(request.messages.length, 4);
  assert.equal(new Set(request.messages.map(({ uid }) => uid)).size, 4);
  request.say(...inits(request, [row(1)]));
  request.messages.forEach(({ uid }, i) => request.say(change(uid, "update", [row(1, i)], "c")));
  const updates = (tab) => tab.messages.filter(({ event }) => event === "update").length;
  await browser.until(() => tabs.at(-1).messages.length === 2);
  assert.deepEqual(tabs.map(updates), [1, 2, 1]);
  assert.ok(tabs.every((tab) => tab.live.status === "connected"));
  assert.equal(browser.streams.length, 1);
});

async function three() {
  const browser = new Browser();
  const tabs = [1, 2, 3].map(() => browser.open(["pages"]));
  const request = await browser.accept();
  request.say(...inits(request, [row(1)]));
  await browser.until(() => tabs.every((tab) => tab.messages.length === 1));
  const leader = request.tab;
  return { browser, tabs, request, leader, others: tabs.filter((tab) => tab !== leader) };
}

for (const [how, go] of [
  ["closes", (tab) => tab.live.close()],
  ["crashes", (tab) => tab.crash()],
  ["goes into the back/forward cache", (tab) => tab.fire("pagehide", { persisted: true })],
  ["is frozen", (tab) => (tab.document.dispatchEvent(new Event("freeze")), tab.freeze())],
]) {
  test(`when the tab that keeps the stream ${how}, another goes on from each tab's cursor`, async () => {
    const { browser, request, leader, others } = await three();
    request.say(...request.messages.map(({ uid }) => change(uid, "update", [row(1, "B")], `c1-${uid}`)));
    await browser.until(() => others.every((tab) => tab.messages.length === 2));
    go(leader);
    const next = await browser.accept();
    assert.notEqual(next.tab, leader);
    assert.equal(next.messages.length, 2);
    for (const { uid, cursor } of next.messages) assert.equal(cursor, `c1-${uid}`);
    next.say(...next.messages.map(({ uid }) => change(uid, "update", [row(1, "B"), row(2)], "c2")));
    await browser.until(() => others.every((tab) => tab.messages.length === 3));
    for (const tab of others) {
      assert.deepEqual(tab.messages[2], { event: "update", data: [row(2)] });
      assert.deepEqual(tab.statuses, ["reconnecting", "connected"]);
    }
    assert.equal(browser.streams.length, 1);
  });
}

test("a tab that holds the stream and does nothing loses it, and its late words do not count", async () => {
  const { browser, request, leader, others } = await three();
  leader.freeze();
  others[0].follow("images"); // nobody answers
  const next = await browser.accept(3);
  next.say(...next.messages.map(({ uid }) => change(uid, "update", [row(1, "B")], "c2")));
  await browser.until(() => others.every((tab) => tab.messages.at(-1).data[0].title === "B"));
  request.say(...request.messages.map(({ uid }) => change(uid, "update", [row(1, "stale")], "c1")));
  await browser.pass(1);
  leader.thaw();
  const last = await browser.accept(4);
  for (const { uid, cursor } of last.messages.slice(0, 3)) assert.equal(cursor, "c2", uid);
  last.say(...last.messages.map(({ uid }) => change(uid, "update", [row(1, "C")], "c3")));
  await browser.until(() => others.every((tab) => tab.messages.at(-1).data[0].title === "C"));
  for (const tab of others) {
    assert.ok(!tab.messages.some(({ data }) => data[0]?.title === "stale"));
    assert.deepEqual(tab.statuses, ["reconnecting", "connected"]);
  }
  assert.equal(browser.streams.length, 1);
});

test("a tab that goes is left out before long", async () => {
  const { browser, others } = await three();
  others[0].crash();
  const next = await browser.accept();
  assert.equal(next.messages.length, 2);
});

test("a stream that is lost is lost for all its tabs, and they share the next", async () => {
  const { browser, tabs, request } = await three();
  request.cut();
  await browser.until(() => tabs.every((tab) => tab.live.status === "reconnecting"));
  await browser.until(() => {
    for (const stream of browser.streams) if (!stream.stream) stream.begin();
    return tabs.every((tab) => tab.live.status === "connected") && browser.request.messages.length === 3;
  });
  assert.equal(browser.streams.length, 1);
});

for (const without of [["locks"], ["BroadcastChannel"]]) {
  test(`without ${without} each tab has its own stream`, async () => {
    const browser = new Browser();
    const tabs = [browser.open(["pages"], { without }), browser.open(["pages"], { without })];
    await browser.until(() => browser.streams.length === 2);
    for (const request of browser.streams) request.begin().say(...inits(request));
    await browser.until(() => tabs.every((tab) => tab.messages.length === 1));
  });
}

test("where locks are forbidden a tab has its own stream", async () => {
  const browser = new Browser();
  browser.lock = () => Promise.reject(new DOMException("opaque origin", "SecurityError"));
  browser.open();
  await browser.accept();
});

test("more than one stream can carry is carried by two", async () => {
  const browser = new Browser();
  const names = (count) => Array.from({ length: count }, (_, i) => `c${i}`);
  browser.open(names(25));
  browser.open(names(25));
  await browser.until(() => browser.streams.length === 2);
  assert.deepEqual(browser.streams.map(({ messages }) => messages.length), [25, 25]);
});

test("a tab for which the server's limit leaves no room opens a stream of its own", async () => {
  const { browser, request, leader, others } = await three();
  const guest = others[0];
  guest.follow("images");
  const second = await browser.accept();
  const { uid } = second.messages.find(({ collection }) => collection === "images");
  const error = { code: "TOO_MANY_SUBSCRIPTIONS", message: "No more." };
  second.say({ type: "subscribe", status: "error", error, uid });
  await browser.until(() => browser.streams.some((stream) => stream.tab === guest));
  const own = browser.streams.find((stream) => stream.tab === guest);
  assert.ok(own.messages.length >= 1);
  assert.ok(request.isGone && leader);
});

test("says on each stream who it is, first, and shares none with another tab", async () => {
  const browser = new Browser();
  const tickets = ["one", "two"];
  const auth = async () => ({ ticket: tickets.shift() });
  browser.open(["pages"], { auth });
  const first = await browser.accept();
  assert.deepEqual(
    first.messages.map(({ type, ticket }) => [type, ticket]),
    [["auth", "one"], ["subscribe", undefined]],
  );
  first.say({ type: "auth", status: "ok" }, ...inits({ messages: first.messages.slice(1) }));
  browser.open(["images"], { auth });
  const second = await browser.accept();
  assert.deepEqual(
    second.messages.map(({ ticket, collection }) => ticket ?? collection),
    ["two", "images"],
  );
  assert.equal(browser.streams.length, 2);
});

test("tells why it could not say who it is on a stream, and asks for none", async () => {
  const browser = new Browser();
  const tab = browser.open(["pages"], {
    auth: () => Promise.reject(new Error("no ticket today")),
  });
  await browser.until(() => tab.errors.length > 0);
  const [{ code, message }] = tab.errors;
  assert.deepEqual([code, message], ["CONNECTION_FAILED", "no ticket today"]);
  assert.deepEqual(browser.requests, []);
});
