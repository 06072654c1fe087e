// Subscriptions: what is asked, what is handed on, what is told once.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../../wagtail_live/static/wagtail_live/wagtail-live.js";
import { FakeClock, following, world } from "./fakes.mjs";

const row = (id, title = "A") => ({ id, title });

test("all subscriptions share one connection and have a uid each", () => {
  const { live, sockets, accept } = world();
  const query = { type: "newsroom.ArticlePage", fields: "title", limit: 12, live: true };
  live.subscribe("pages", query, () => {});
  live.subscribe("pages/12", { fields: "title" }, () => {});
  live.subscribe("authors/3f2a-9", "fields=name", () => {});
  live.subscribe("images", null, () => {}, { event: "update" });
  query.limit = 1;
  assert.deepEqual(accept(), [
    { type: "subscribe", collection: "pages", query: { ...query, limit: 12 }, uid: "1" },
    { type: "subscribe", collection: "pages", item: 12, query: { fields: "title" }, uid: "2" },
    { type: "subscribe", collection: "authors", item: "3f2a-9", query: "fields=name", uid: "3" },
    { type: "subscribe", collection: "images", event: "update", uid: "4" },
  ]);
  assert.equal(sockets.length, 1);
});

test("hands on the init, then the changes, each to its own handler", () => {
  const { live, accept, socket } = world();
  const [pages, one] = [[], []];
  live.subscribe("pages", {}, (message) => pages.push(message));
  live.subscribe("pages/12", {}, (message) => one.push(message));
  accept();
  const meta = { total_count: 1 };
  socket.say(
    { type: "subscription", event: "init", data: [row(12)], meta, uid: "1", cursor: "c1" },
    { type: "subscription", event: "init", data: row(12), uid: "2", cursor: "c1" },
    { type: "subscription", event: "update", data: [row(12, "B")], uid: "2", cursor: "c2" },
    { type: "subscription", event: "create", data: [row(13)], uid: "1", cursor: "c3" },
    { type: "subscription", event: "delete", data: [12], uid: "1", cursor: "c4" },
  );
  assert.deepEqual(pages, [
    { event: "init", data: [row(12)], meta },
    { event: "create", data: [row(13)] },
    { event: "delete", data: [12] },
  ]);
  assert.deepEqual(one, [
    { event: "init", data: row(12) },
    { event: "update", data: [row(12, "B")] },
  ]);
});

test("unsubscribe says so once, and nothing more is handed on", () => {
  const it = following([row(1)]);
  it.socket.take();
  it.subscription.unsubscribe();
  it.subscription.unsubscribe();
  assert.deepEqual(it.socket.take(), [{ type: "unsubscribe", uid: it.uid }]);
  it.change("update", [row(1, "B")]);
  it.socket.drop();
  it.clock.pass(1);
  assert.deepEqual(it.accept(), []);
  assert.deepEqual(it.messages, []);
});

test("a handler may unsubscribe in the middle of a frame", () => {
  const { live, accept, socket } = world();
  const events = [];
  const subscription = live.subscribe("pages", {}, ({ event }) => {
    events.push(event);
    if (event === "update") subscription.unsubscribe();
  });
  const [{ uid }] = accept();
  socket.say({ type: "subscription", event: "init", data: [row(1)], uid });
  socket.say({ type: "subscription", event: "create", data: [row(1, "B"), row(2)], uid });
  assert.deepEqual(events, ["init", "update"]);
});

test("subscribes again after a reconnect, each from its last cursor", () => {
  const it = following([row(1)]);
  it.live.subscribe("images", {}, () => {});
  it.change("update", [row(1, "B")], "c9");
  it.socket.drop();
  it.clock.pass(1);
  const asked = it.accept();
  assert.deepEqual(
    asked.map(({ collection, cursor }) => [collection, cursor]),
    [
      ["pages", "c9"],
      ["images", undefined],
    ],
  );
});

const cursorAfterALoss = (it) => {
  it.socket.drop();
  it.clock.pass(it.clock.next);
  return it.accept()[0].cursor;
};

test("a change of several frames counts only when its last has come", () => {
  const it = following([row(1), row(2)]);
  it.socket.say({ type: "subscription", event: "delete", data: [1], uid: it.uid });
  assert.equal(cursorAfterALoss(it), "c0");
  it.socket.say({ type: "subscription", event: "resume", uid: it.uid });
  it.socket.say({ type: "subscription", event: "delete", data: [1], uid: it.uid });
  it.socket.say({ type: "subscription", event: "create", data: [row(3)], uid: it.uid });
  assert.equal(cursorAfterALoss(it), "c0", "a second loss, in the middle of what was missed");
  it.change("update", [row(2, "B")], "c5");
  assert.equal(cursorAfterALoss(it), "c5");
  assert.deepEqual(it.messages, [
    { event: "delete", data: [1] },
    { event: "create", data: [row(3)] },
    { event: "update", data: [row(2, "B")] },
  ]);
});

test("a resume that has nothing to tell leaves its cursor, or the one there was", () => {
  const it = following([row(1)]);
  it.socket.say({ type: "subscription", event: "resume", uid: it.uid });
  assert.equal(cursorAfterALoss(it), "c0");
  it.change("resume", undefined, "c2");
  assert.equal(cursorAfterALoss(it), "c2");
});

test("a change that could not be read does not count", () => {
  const it = following([row(1)]);
  it.change("update", null, "c1");
  it.change("create", [null], "c2");
  assert.equal(cursorAfterALoss(it), "c0");
});

test("what was given up for a fresh base leaves no cursor behind", () => {
  const it = following([row(1)]);
  it.live.on("error", () => {});
  const stream = it.live.subscribe("images");
  const [{ uid }] = it.socket.take().filter(({ collection }) => collection === "images");
  const rows = Array.from({ length: 10_001 }, (_, i) => row(i));
  it.socket.say({ type: "subscription", event: "init", data: [], uid, cursor: "i0" });
  it.socket.say({ type: "subscription", event: "create", data: rows, uid, cursor: "i1" });
  it.clock.pass(1);
  const asked = it.socket.take().find(({ type, collection }) => type === "subscribe" && collection);
  assert.equal(asked.cursor, undefined);
  stream.unsubscribe();
});

test("a resume hands on what was missed, and not what was seen", () => {
  const it = following([row(1), row(2)]);
  it.change("update", [row(1, "B")]);
  it.messages.length = 0;
  it.socket.drop();
  it.clock.pass(1);
  it.accept();
  it.change("resume");
  it.change("update", [row(1, "B"), row(2, "C")]);
  it.change("create", [row(1, "B")]);
  it.change("delete", [2]);
  assert.deepEqual(it.messages, [
    { event: "update", data: [row(2, "C")] },
    { event: "delete", data: [2] },
  ]);
});

test("a reset is handed on as an init that says so, and changes are told against it", () => {
  const it = following([row(1)]);
  it.socket.say({
    type: "subscription",
    event: "init",
    reset: "expired",
    data: [row(2)],
    uid: it.uid,
    cursor: "n",
  });
  it.change("update", [row(2)]);
  it.change("create", [row(1)]);
  assert.deepEqual(it.messages, [
    { event: "init", data: [row(2)], reset: "expired" },
    { event: "create", data: [row(1)] },
  ]);
});

test("an init that comes again is marked as a reset even when the server does not say so", () => {
  const it = following([row(1)]);
  it.change("init", [row(1)]);
  assert.equal(it.messages[0].reset, "restarted");
});

test("a connection lost before the first init leaves that init a first one", () => {
  const { live, socket, accept, clock, sockets } = world();
  const messages = [];
  live.subscribe("pages", {}, (message) => messages.push(message));
  accept();
  socket.drop();
  clock.pass(1);
  const [{ uid }] = accept();
  sockets[1].say({ type: "subscription", event: "init", data: [], uid });
  assert.deepEqual(messages, [{ event: "init", data: [] }]);
});

for (const [name, frames, told] of [
  ["an identical update is dropped", [["update", [row(1)]]], []],
  ["an identical create is dropped", [["create", [row(1)]]], []],
  ["a create of a known id is an update", [["create", [row(1, "B")]]], [["update", [row(1, "B")]]]],
  ["an update of an unknown id is handed on", [["update", [row(9)]]], [["update", [row(9)]]]],
  [
    "a change back to an older row is a change",
    [
      ["update", [row(1, "B")]],
      ["update", [row(1)]],
    ],
    [
      ["update", [row(1, "B")]],
      ["update", [row(1)]],
    ],
  ],
  [
    "a delete is told once",
    [
      ["delete", [1]],
      ["delete", [1]],
    ],
    [["delete", [1]]],
  ],
  [
    "a delete of an unknown id is told once",
    [
      ["delete", [7]],
      ["delete", [7]],
    ],
    [["delete", [7]]],
  ],
  [
    "what comes after a delete is a create, even the same row",
    [
      ["delete", [1]],
      ["create", [row(1)]],
    ],
    [
      ["delete", [1]],
      ["create", [row(1)]],
    ],
  ],
  [
    "an update after a delete is a create",
    [
      ["delete", [1]],
      ["update", [row(1, "B")]],
    ],
    [
      ["delete", [1]],
      ["create", [row(1, "B")]],
    ],
  ],
  [
    "the known and the new rows of one frame are told apart, in order",
    [["create", [row(1, "B"), row(2), row(3)]]],
    [
      ["update", [row(1, "B")]],
      ["create", [row(2), row(3)]],
    ],
  ],
]) {
  test(name, () => {
    const it = following([row(1)]);
    for (const frame of frames) it.change(...frame);
    assert.deepEqual(
      it.messages.map(({ event, data }) => [event, data]),
      told,
    );
  });
}

test("rows that differ in one character, anywhere, are different", () => {
  const it = following([row(1, "x".repeat(40))]);
  for (let i = 0; i < 40; i++) {
    it.change("update", [row(1, "x".repeat(i) + "é" + "x".repeat(39 - i))]);
  }
  assert.equal(it.messages.length, 40);
});

test("remembers ten thousand ids and forgets the oldest", () => {
  const rows = Array.from({ length: 10_001 }, (_, i) => row(i));
  const it = following(rows);
  it.change("update", [rows[1]]);
  it.change("update", [rows[10_000]]);
  assert.deepEqual(it.messages, []);
  it.change("update", [rows[0]]);
  assert.equal(it.messages.length, 1);
});

test("an id that is heard of again is not the oldest any more", () => {
  const it = following(Array.from({ length: 10_000 }, (_, i) => row(i)));
  it.change("update", [row(0, "B")]);
  it.change("create", [row("new")]);
  it.messages.length = 0;
  it.change("update", [row(0, "B")]);
  assert.deepEqual(it.messages, []);
});

test("ids named like properties of objects are ids like others", () => {
  const it = following([{ id: "__proto__" }, { id: "constructor" }]);
  it.socket.hear(
    `{"type":"subscription","event":"update","uid":"${it.uid}","cursor":"c",` +
      `"data":[{"id":"__proto__","__proto__":{"polluted":1}},{"id":"constructor"}]}`,
  );
  it.change("delete", ["__proto__", "toString"]);
  assert.deepEqual(
    it.messages.map(({ event, data }) => [event, data.length]),
    [
      ["update", 1],
      ["delete", 2],
    ],
  );
  assert.equal({}.polluted, undefined);
});

test("an event filter is passed on, and its init has no data", () => {
  const it = world();
  const messages = [];
  it.live.subscribe("pages", {}, (message) => messages.push(message), { event: "delete" });
  const [{ uid, event }] = it.accept();
  assert.equal(event, "delete");
  it.socket.say({ type: "subscription", event: "init", uid, cursor: "c" });
  assert.deepEqual(messages, [{ event: "init", data: [] }]);
});

test("who follows only deletes hears each of them: what lies between was not for it", () => {
  const it = following([], { event: "delete" });
  it.change("delete", [1]);
  it.change("delete", [1]);
  assert.equal(it.messages.length, 2);
});

test("who follows only updates hears an identical one once", () => {
  const it = following([], { event: "update" });
  it.change("update", [row(1)]);
  it.change("update", [row(1)]);
  assert.equal(it.messages.length, 1);
});

const refusal = (uid, code, type = "subscribe") => ({
  type,
  status: "error",
  error: { code, message: "Say it otherwise." },
  uid,
});

for (const code of ["FORBIDDEN", "INVALID_QUERY", "INVALID_PAYLOAD"]) {
  test(`${code} as the answer to subscribe ends the subscription with an error`, () => {
    const { live, accept, socket, errors, clock } = world();
    const subscription = live.subscribe("secrets", {}, assert.fail);
    const [{ uid }] = accept();
    socket.say(refusal(uid, code));
    assert.equal(errors.length, 1);
    assert.ok(errors[0] instanceof Error);
    assert.equal(errors[0].code, code);
    assert.equal(errors[0].message, "Say it otherwise.");
    assert.equal(errors[0].subscription, subscription);
    socket.drop();
    clock.pass(1);
    assert.deepEqual(accept(), []);
  });
}

test("what was readable and is refused after a reconnect is told as a delete", () => {
  const it = following([row(1), row(2)]);
  it.change("delete", [2]);
  it.messages.length = 0;
  it.socket.drop();
  it.clock.pass(1);
  it.accept();
  it.socket.say(refusal(it.uid, "FORBIDDEN"));
  assert.deepEqual(it.messages, [{ event: "delete", data: [1] }]);
  assert.equal(it.errors[0].code, "FORBIDDEN");
});

test("such a delete is not told to one who follows only updates", () => {
  const it = following([], { event: "update" });
  it.change("update", [row(1)]);
  it.messages.length = 0;
  it.socket.say(refusal(it.uid, "FORBIDDEN"));
  assert.deepEqual(it.messages, []);
});

for (const code of ["SERVICE_UNAVAILABLE", "INTERNAL_ERROR", "TOO_MANY_SUBSCRIPTIONS"]) {
  test(`${code} as the answer to subscribe is tried again, later and later`, () => {
    const { live, accept, socket, errors, clock } = world();
    live.subscribe("pages", {}, () => {});
    let [{ uid }] = accept();
    for (const wait of [0.5, 1, 2]) {
      socket.say(refusal(uid, code));
      clock.pass(wait - 0.1);
      assert.deepEqual(socket.take(), []);
      clock.pass(0.1);
      [{ uid }] = socket.take();
    }
    assert.equal(errors.length, 3);
  });
}

test("a subscription that the server ends is asked anew, without its cursor", () => {
  const it = following([row(1)]);
  const { uid } = it;
  it.socket.say(refusal(uid, "INTERNAL_ERROR", "subscription"));
  it.change("update", [row(1, "late")]);
  it.clock.pass(0.5);
  const [asked] = it.socket.take();
  assert.equal(asked.type, "subscribe");
  assert.equal(asked.cursor, undefined);
  assert.notEqual(asked.uid, uid);
  it.uid = asked.uid;
  it.change("init", [row(1)]);
  assert.deepEqual(it.messages, [{ event: "init", data: [row(1)], reset: "restarted" }]);
});

test("a subscription made while connected is asked at once", () => {
  const { live, accept, socket } = world();
  accept();
  live.subscribe("pages", {}, () => {});
  assert.equal(socket.take()[0].collection, "pages");
});

test("unsubscribing while a retry is due ends the retry", () => {
  const it = following([row(1)]);
  it.socket.say(refusal(it.uid, "INTERNAL_ERROR", "subscription"));
  it.subscription.unsubscribe();
  it.socket.take();
  it.clock.pass(5);
  assert.deepEqual(it.socket.take(), []);
});

test("an error listener may unsubscribe: then there is no retry", () => {
  const it = following([row(1)]);
  it.live.on("error", ({ subscription }) => subscription.unsubscribe());
  it.socket.say(refusal(it.uid, "INTERNAL_ERROR", "subscription"));
  it.socket.take();
  it.clock.pass(5);
  assert.deepEqual(it.socket.take(), []);
});

test("a change makes the next retry quick again, an init alone does not", () => {
  const it = following([]);
  const retry = (prepare) => {
    prepare();
    const before = it.clock.now;
    it.socket.say(refusal(it.uid, "INTERNAL_ERROR", "subscription"));
    while (!it.socket.sent.length) it.clock.pass(0.25);
    [{ uid: it.uid }] = it.socket.take();
    return (it.clock.now - before) / 1000;
  };
  const init = () => it.change("init", []);
  const waits = [init, init, () => it.change("create", [row(1)]), init].map(retry);
  assert.deepEqual(waits, [0.5, 1, 0.5, 1]);
});

test("asks once when a reconnect comes before the retry", () => {
  const it = following([row(1)]);
  it.socket.say(refusal(it.uid, "INTERNAL_ERROR", "subscription"));
  it.socket.drop();
  it.window.fire("online");
  assert.equal(it.accept().length, 1);
  it.clock.pass(3);
  assert.equal(it.socket.take().length, 0);
});

test("errors about nothing in particular are told, and change nothing", () => {
  const it = following([row(1)]);
  it.socket.say(refusal(undefined, "INTERNAL_ERROR", "server"));
  it.socket.say(refusal(it.uid, "INVALID_PAYLOAD", "unsubscribe"));
  it.change("update", [row(1, "B")]);
  assert.equal(it.errors.length, 2);
  assert.equal(it.errors[0].subscription, undefined);
  assert.equal(it.messages.length, 1);
});

for (const text of ["{", "null", "7", "{}", '{"type":"x","status":"error"}', "[]"]) {
  test(`the malformed frame ${text} is an error and no more`, () => {
    const it = following([row(1)]);
    it.socket.hear(text);
    assert.equal(it.errors[0].code, "MALFORMED_FRAME");
    it.change("update", [row(1, "B")]);
    assert.equal(it.messages.length, 1);
  });
}

test("a change without a list of rows is malformed", () => {
  const it = following([row(1)]);
  it.change("update", null);
  it.change("create", [null]);
  assert.deepEqual(
    it.errors.map((error) => error.code),
    ["MALFORMED_FRAME", "MALFORMED_FRAME"],
  );
  assert.deepEqual(it.messages, []);
});

test("frames of types and uids that it does not know are passed over", () => {
  const it = following([row(1)]);
  it.socket.say({ type: "auth", status: "ok" });
  it.socket.say({ type: "subscription", event: "update", data: [row(1)], uid: "99" });
  it.socket.say({ type: "subscription", event: "unsubscribe", uid: it.uid });
  assert.deepEqual([it.messages, it.errors], [[], []]);
});

test("a handler that throws is reported, and the next message comes", async () => {
  const it = world();
  let calls = 0;
  it.live.subscribe("pages", {}, () => {
    calls++;
    throw new Error("handler");
  });
  it.live.subscribe("pages", {}, async () => {
    throw new Error("async handler");
  });
  it.accept();
  for (const uid of ["1", "2"]) {
    it.socket.say({ type: "subscription", event: "init", data: [], uid });
    it.socket.say({ type: "subscription", event: "create", data: [row(1)], uid });
  }
  await null;
  assert.equal(calls, 2);
  assert.deepEqual(
    it.window.reported.map((error) => error.message),
    ["handler", "handler", "async handler", "async handler"],
  );
});

test("an error that nobody listens to goes to the console", (context) => {
  const { mock } = context.mock.method(console, "error", () => {});
  const { socket, sockets, window } = world();
  socket.hear("{");
  assert.equal(mock.callCount(), 0);
  connect("wss://cms.example.com/", { window, clock: new FakeClock(), WebSocket: socket.constructor });
  sockets.at(-1).hear("{");
  assert.equal(mock.callCount(), 1);
  assert.equal(mock.calls[0].arguments[0].code, "MALFORMED_FRAME");
});
