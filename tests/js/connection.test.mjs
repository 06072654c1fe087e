// The connection: opening, watching, reopening, giving up.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../../wagtail_live/static/wagtail_live/wagtail-live.js";
import { FakeWindow, following, settle, world } from "./fakes.mjs";

test("opens at once and tells its status", () => {
  const { live, sockets, statuses, accept } = world();
  assert.equal(sockets.length, 1);
  assert.equal(live.status, "connecting");
  accept();
  assert.equal(live.status, "connected");
  assert.deepEqual(statuses, ["connected"]);
});

for (const [given, opened] of [
  ["/websocket", "wss://www.example.com/websocket"],
  ["//cms.example.com/websocket", "wss://cms.example.com/websocket"],
  ["http://cms.example.com/websocket", "ws://cms.example.com/websocket"],
  ["https://cms.example.com/websocket", "wss://cms.example.com/websocket"],
  ["ws://localhost:8000/websocket", "ws://localhost:8000/websocket"],
]) {
  test(`opens ${opened} for ${given}`, () => {
    assert.equal(world({ url: given }).socket.url, opened);
  });
}

test("an address that is no URL is the programmer's mistake and raises", () => {
  assert.throws(() => connect("wss://", { window: {} }), TypeError);
});

test("needs no page: a runtime without window events, document or navigator will do", () => {
  const { live, accept, socket, clock, sockets } = world({ window: {}, url: "ws://localhost/" });
  accept();
  socket.drop();
  clock.pass(1);
  assert.equal(sockets.length, 2);
  live.close();
});

test("nothing is queued before the connection is open", () => {
  const { live, socket, accept } = world();
  live.subscribe("pages", {}, () => {}).unsubscribe();
  live.subscribe("images", {}, () => {});
  assert.deepEqual(socket.sent, []);
  assert.deepEqual(
    accept().map((frame) => frame.collection),
    ["images"],
  );
});

test("waits twice as long after each failure, up to the maximum", () => {
  const { clock, sockets } = world();
  const waits = [];
  for (let i = 0; i < 9; i++) {
    sockets.at(-1).drop();
    waits.push(clock.next);
    clock.pass(clock.next);
  }
  assert.deepEqual(waits, [0.5, 1, 2, 4, 8, 16, 30, 30, 30]);
});

test("the wait is a random part of that, from nothing to all of it", () => {
  const draws = [0, 0.25, 0.5];
  const { clock, sockets } = world({ random: () => draws.shift(), backoff: { min: 1, max: 8 } });
  const waits = [];
  for (let i = 0; i < 3; i++) {
    sockets.at(-1).drop();
    waits.push(clock.next);
    clock.pass(clock.next);
  }
  assert.deepEqual(waits, [0, 0.5, 2]);
});

test("a connection that lasts makes the next wait short again, a flapping one does not", () => {
  const { clock, sockets, accept } = world();
  const dropAfter = (seconds) => {
    accept();
    clock.pass(seconds);
    sockets.at(-1).drop();
    const wait = clock.next;
    clock.pass(wait);
    return wait;
  };
  assert.deepEqual([1, 1, 1, 11, 1].map(dropAfter), [0.5, 1, 2, 0.5, 1]);
});

test("going online or becoming visible ends the wait", () => {
  const { window, sockets } = world();
  sockets[0].drop();
  window.show(true);
  assert.equal(sockets.length, 1);
  window.show();
  assert.equal(sockets.length, 2);
  sockets[1].drop();
  window.fire("online");
  assert.equal(sockets.length, 3);
});

test("while the browser is offline only a slow timer tries", () => {
  const window = new FakeWindow();
  window.navigator.onLine = false;
  const { sockets, clock, live } = world({ window });
  assert.equal(sockets.length, 0);
  assert.equal(live.status, "connecting");
  window.show();
  clock.pass(29);
  assert.equal(sockets.length, 0);
  clock.pass(1);
  assert.equal(sockets.length, 1);
  sockets[0].drop();
  assert.equal(clock.next, 30);
  window.navigator.onLine = true;
  window.fire("online");
  assert.equal(sockets.length, 2);
});

test("who is closed with 4401 comes back as who they are now", () => {
  const { live, socket, accept, clock, sockets, errors, statuses } = world();
  live.subscribe("pages", {}, () => {});
  accept();
  socket.say({ type: "ping" });
  socket.drop(4401);
  clock.pass(clock.next);
  accept();
  assert.equal(sockets.length, 2);
  assert.deepEqual(statuses, ["connected", "reconnecting", "connected"]);
  assert.deepEqual(errors, []);
});

for (const code of [4401, 4403]) {
  test(`${code} before anything was said ends it all, with an error and without another attempt`, () => {
    const { live, socket, accept, clock, window, sockets, errors, statuses } = world();
    live.subscribe("pages", {}, () => {});
    accept();
    socket.drop(code);
    assert.equal(live.status, "closed");
    assert.deepEqual(statuses, ["connected", "closed"]);
    assert.deepEqual(
      errors.map((error) => error.code),
      [code],
    );
    window.fire("online");
    window.show();
    clock.pass(1000);
    assert.equal(sockets.length, 1);
    assert.equal(clock.timers.size, 0);
  });
}

for (const code of [1009, 4429]) {
  test(`${code} waits at least half the maximum, and is not hurried`, () => {
    const { socket, accept, clock, window, sockets, statuses } = world({ random: () => 0 });
    accept();
    socket.drop(code);
    assert.equal(clock.next, 15);
    window.show();
    window.fire("online");
    assert.equal(sockets.length, 1);
    clock.pass(15);
    assert.equal(sockets.length, 2);
    assert.deepEqual(statuses, ["connected", "reconnecting"]);
  });
}

test("a connection that was open comes back within the time that the server says, then as always", () => {
  for (const code of [1006, 1012]) {
    const draws = [0.5, 1, 1, 1];
    const it = following([], { random: () => draws.shift() });
    it.socket.say({ type: "subscription", event: "resume", uid: it.uid, reconnect_seconds: 20 });
    it.socket.drop(code);
    const waits = [];
    for (let i = 0; i < 3; i++) {
      waits.push(it.clock.next);
      it.clock.pass(it.clock.next);
      it.socket.drop();
    }
    assert.deepEqual(waits, [10, 1, 2]);
  }
});

test("one that comes back and is lost again and again waits longer and longer all the same", () => {
  const it = following([]);
  const waits = [];
  for (let i = 0; i < 6; i++) {
    it.socket.say({ type: "subscription", event: "resume", uid: it.uid, reconnect_seconds: 3 });
    it.socket.drop();
    waits.push(it.clock.next);
    it.clock.pass(it.clock.next);
    it.accept();
  }
  assert.deepEqual(waits, [3, 3, 3, 4, 8, 16]);
});

for (const code of [1000, 1001, 1006, 1012, 4408, 4413]) {
  test(`${code} reconnects`, () => {
    const { socket, accept, clock, sockets } = world();
    accept();
    socket.drop(code);
    clock.pass(0.5);
    assert.equal(sockets.length, 2);
  });
}

test("answers the server's ping", () => {
  const { socket, accept } = world();
  accept();
  socket.say({ type: "ping" });
  assert.deepEqual(socket.take(), [{ type: "pong" }]);
});

test("a connection that says nothing for 75 seconds is given up", () => {
  const { socket, accept, clock, sockets, live } = world();
  accept();
  clock.pass(74);
  socket.say({ type: "ping" });
  clock.pass(74);
  assert.equal(live.status, "connected");
  clock.pass(1);
  assert.equal(live.status, "reconnecting");
  assert.ok(socket.isClosed);
  clock.pass(0.5);
  assert.equal(sockets.length, 2);
});

test("the watch follows the server's heartbeat", () => {
  const { accept, clock, live } = world({ heartbeatSeconds: 4 });
  accept();
  clock.pass(10);
  assert.equal(live.status, "reconnecting");
});

test("the watch begins anew when the connection opens", () => {
  const { accept, clock, live } = world();
  clock.pass(9);
  accept();
  clock.pass(74);
  assert.equal(live.status, "connected");
});

test("an attempt that is not answered in 10 seconds is given up too", () => {
  const { clock, sockets } = world();
  clock.pass(9.9);
  assert.equal(sockets.length, 1);
  clock.pass(0.7);
  assert.equal(sockets.length, 2);
  assert.ok(sockets[0].isClosed);
});

test("what an abandoned connection says later is not heard", () => {
  const it = following([{ id: 1 }]);
  const old = it.socket;
  it.clock.pass(75.5);
  old.say({ type: "subscription", event: "delete", data: [1], uid: it.uid });
  old.drop();
  assert.deepEqual(it.messages, []);
  assert.equal(it.sockets.length, 2);
});

for (const [name, event] of [
  ["becoming visible", (window) => window.show()],
  ["going online", (window) => window.fire("online")],
]) {
  test(`after ${name} a ping that is not answered in 5 seconds means a new connection`, () => {
    const { window, accept, socket, clock, sockets, live } = world();
    accept();
    event(window);
    assert.deepEqual(socket.take(), [{ type: "ping" }]);
    clock.pass(5);
    assert.equal(live.status, "reconnecting");
    clock.pass(0.5);
    assert.equal(sockets.length, 2);
  });
}

test("after waking, any frame is an answer", () => {
  const { window, accept, socket, clock, live } = world();
  accept();
  window.show();
  clock.pass(4);
  socket.say({ type: "pong" });
  clock.pass(10);
  assert.equal(live.status, "connected");
});

test("a page put into the back/forward cache closes, and opens when it is shown again", () => {
  const it = following([{ id: 1 }]);
  it.window.fire("pagehide", { persisted: false });
  assert.ok(!it.socket.isClosed);
  it.window.fire("pagehide", { persisted: true });
  assert.ok(it.sockets[0].isClosed);
  assert.equal(it.live.status, "reconnecting");
  assert.equal(it.clock.timers.size, 0);
  it.window.fire("pageshow", { persisted: true });
  assert.equal(it.sockets.length, 2);
  assert.equal(it.accept()[0].cursor, "c0");
  it.window.fire("pageshow", { persisted: false });
  assert.equal(it.sockets.length, 2);
});

test("close ends the connection, the timers and the listening", () => {
  const { live, accept, socket, clock, window, sockets, statuses } = world();
  accept();
  live.close();
  live.close();
  window.show();
  window.fire("online");
  window.fire("pageshow", { persisted: true });
  assert.ok(socket.isClosed);
  assert.equal(clock.timers.size, 0);
  assert.equal(sockets.length, 1);
  assert.deepEqual(statuses, ["connected", "closed"]);
});

test("after close a subscription is over before it begins", async () => {
  const { live } = world();
  live.close();
  live.subscribe("pages", {}, assert.fail).unsubscribe();
  for await (const message of live.subscribe("pages")) assert.fail(message);
});

test("a constructor that throws is an error event and another attempt", () => {
  let attempts = 0;
  class Blocked {
    constructor() {
      attempts++;
      throw new Error("blocked by policy");
    }
  }
  const { clock, errors } = world({ WebSocket: Blocked });
  assert.equal(attempts, 1);
  clock.pass(0.5);
  assert.equal(attempts, 2);
  assert.equal(errors[0].code, "CONNECTION_FAILED");
  assert.equal(errors[0].message, "blocked by policy");
});

test("a status listener that throws harms nobody, and an ended one is not called", () => {
  const { live, accept, socket, window } = world();
  const seen = [];
  live.on("status", () => {
    throw new Error("listener");
  });
  const off = live.on("status", (status) => seen.push(status));
  accept();
  off();
  socket.drop();
  assert.deepEqual(seen, ["connected"]);
  assert.equal(window.reported.length, 2);
});

test("another transport can take the socket's place", () => {
  const sent = [];
  let events;
  const transport = (url, options, given) => {
    events = given;
    return { send: (text) => sent.push(text), close() {} };
  };
  const { live, messages = [] } = world({ transport });
  live.subscribe("pages", {}, (message) => messages.push(message));
  events.opened();
  const { uid } = JSON.parse(sent[0]);
  events.received(JSON.stringify({ type: "subscription", event: "init", data: [], uid }));
  assert.deepEqual(messages, [{ event: "init", data: [] }]);
});

test("says who it is on each connection before it asks for anything", async () => {
  const tickets = ["one", "two"];
  const { live, sockets, clock, accept } = world({
    auth: async () => ({ ticket: tickets.shift() }),
  });
  live.subscribe("pages", {}, () => {});
  for (const ticket of ["one", "two"]) {
    accept();
    assert.equal(live.status === "connected", false);
    await settle();
    assert.equal(live.status, "connected");
    const [auth, { type }] = sockets.at(-1).take();
    assert.deepEqual(auth, { type: "auth", ticket });
    assert.equal(type, "subscribe");
    sockets.at(-1).drop();
    clock.pass(1);
  }
});

test("says nothing when there is nothing to say", async () => {
  const { live, socket, accept } = world({ auth: () => null });
  live.subscribe("pages", {}, () => {});
  accept();
  await settle();
  assert.deepEqual(socket.take().map(({ type }) => type), ["subscribe"]);
});

test("tells why it could not say who it is, and tries again", async () => {
  const { clock, sockets, errors, accept } = world({
    auth() {
      throw new Error("no ticket today");
    },
  });
  accept();
  await settle();
  assert.deepEqual(errors.map(({ code, message }) => [code, message]), [
    ["CONNECTION_FAILED", "no ticket today"],
  ]);
  clock.pass(clock.next);
  assert.equal(sockets.length, 2);
});

test("what was asked for a connection that is gone is not said on the next one", async () => {
  const asked = [];
  const { live, socket, sockets, clock, accept } = world({
    auth: () => new Promise((resolve, reject) => asked.push({ resolve, reject })),
  });
  live.subscribe("pages", {}, () => {});
  accept();
  socket.send = () => assert.ok(socket.isClosed);
  socket.drop();
  clock.pass(1);
  asked[0].resolve({ ticket: "old" });
  await settle();
  assert.equal(live.status, "reconnecting");
  accept();
  asked[1].resolve({ ticket: "new" });
  await settle();
  assert.deepEqual(sockets.at(-1).take().map(({ ticket }) => ticket), ["new", undefined]);
  assert.equal(live.status, "connected");
});

test("a refusal of who it is reaches the error listeners", async () => {
  const { live, sockets, errors, accept } = world({ auth: () => ({ ticket: "used" }) });
  const stream = live.subscribe("pages");
  accept();
  await settle();
  const error = { code: "INVALID_CREDENTIALS", message: "Used." };
  const [, { uid }] = sockets.at(-1).take();
  sockets.at(-1).say(
    { type: "auth", status: "error", error },
    { type: "subscribe", status: "error", error, uid },
  );
  assert.deepEqual(errors.map(({ code }) => code), [error.code, error.code]);
  await assert.rejects(stream[Symbol.asyncIterator]().next(), { code: error.code });
});
