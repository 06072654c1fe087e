// The async iterator: a bounded buffer that folds, never drops.

import assert from "node:assert/strict";
import { test } from "node:test";

import { settle, world } from "./fakes.mjs";

const row = (id, title = "A") => ({ id, title });

function streaming(rows = []) {
  const it = world();
  it.stream = it.live.subscribe("pages", {});
  const ask = () => {
    [it.asked] = it.socket.take();
    it.uid = it.asked.uid;
  };
  it.socket.accept();
  ask();
  it.ask = ask;
  it.change = (event, data) =>
    it.socket.say({ type: "subscription", event, data, uid: it.uid, cursor: "c" });
  it.change("init", rows);
  it.messages = it.stream[Symbol.asyncIterator]();
  it.read = async () => (await it.messages.next()).value;
  return it;
}

test("hands on what came before it was read, then what comes", async () => {
  const it = streaming([row(1)]);
  assert.deepEqual(await it.read(), { event: "init", data: [row(1)] });
  const next = it.read();
  await settle();
  it.change("update", [row(1, "B")]);
  assert.deepEqual(await next, { event: "update", data: [row(1, "B")] });
});

test("break unsubscribes", async () => {
  const it = streaming();
  for await (const message of it.stream) {
    assert.equal(message.event, "init");
    break;
  }
  assert.deepEqual(it.socket.take(), [{ type: "unsubscribe", uid: it.uid }]);
});

for (const [name, frames, read] of [
  [
    "update + update = the latest update",
    [
      ["update", [row(1, "B")]],
      ["update", [row(1, "C")]],
    ],
    [{ event: "update", data: [row(1, "C")] }],
  ],
  [
    "create + update = create, with the latest row",
    [
      ["create", [row(2)]],
      ["update", [row(2, "B")]],
    ],
    [{ event: "create", data: [row(2, "B")] }],
  ],
  [
    "create + delete = delete",
    [
      ["create", [row(2)]],
      ["delete", [2]],
    ],
    [{ event: "delete", data: [2] }],
  ],
  [
    "update + delete = delete",
    [
      ["update", [row(1, "B")]],
      ["delete", [1]],
    ],
    [{ event: "delete", data: [1] }],
  ],
  [
    "delete + create = delete, then create",
    [
      ["delete", [1]],
      ["create", [row(1, "B")]],
      ["update", [row(1, "C")]],
    ],
    [
      { event: "delete", data: [1] },
      { event: "create", data: [row(1, "C")] },
    ],
  ],
  [
    "delete + create + delete = delete",
    [
      ["delete", [1]],
      ["create", [row(1)]],
      ["delete", [1]],
    ],
    [{ event: "delete", data: [1] }],
  ],
  [
    "different ids gather: deletes, then creates, then updates",
    [
      ["update", [row(1, "B")]],
      ["create", [row(5)]],
      ["delete", [9]],
      ["create", [row(6)]],
      ["delete", [8]],
    ],
    [
      { event: "delete", data: [9, 8] },
      { event: "create", data: [row(5), row(6)] },
      { event: "update", data: [row(1, "B")] },
    ],
  ],
  [
    "a reset makes all before it void",
    [
      ["create", [row(5)]],
      ["delete", [1]],
      ["init", [row(7)]],
      ["create", [row(8)]],
    ],
    [
      { event: "init", data: [row(7)], reset: "restarted" },
      { event: "create", data: [row(8)] },
    ],
  ],
]) {
  test(name, async () => {
    const it = streaming([row(1)]);
    await it.read();
    for (const frame of frames) it.change(...frame);
    for (const message of read) assert.deepEqual(await it.read(), message);
    let more = false;
    it.messages.next().then(() => (more = true));
    await settle();
    assert.equal(more, false);
  });
}

test("a slow reader ends with what the server has, whatever happened", async () => {
  let seed = 7;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const it = streaming([row(0), row(1)]);
  const server = new Map([0, 1].map((id) => [id, row(id)]));
  const reader = new Map();
  const apply = ({ event, data }) => {
    if (event === "init") for (const it of data) reader.set(it.id, it);
    else if (event === "delete") for (const id of data) reader.delete(id);
    else {
      for (const it of data) {
        assert.equal(reader.has(it.id), event === "update", `${event} of ${it.id}`);
        reader.set(it.id, it);
      }
    }
  };
  apply(await it.read());
  for (let step = 0; step < 5000; step++) {
    const id = random(8);
    if (!server.has(id)) {
      server.set(id, row(id, `t${step}`));
      it.change("create", [server.get(id)]);
    } else if (random(3)) {
      server.set(id, row(id, `t${step}`));
      it.change("update", [server.get(id)]);
    } else {
      server.delete(id);
      it.change("delete", [id]);
    }
    if (!random(10)) apply(await it.read());
  }
  it.change("create", [row("last")]);
  server.set("last", row("last"));
  while (!reader.has("last")) apply(await it.read());
  let next = it.read().then(apply);
  it.change("update", [row("last", "B")]);
  server.set("last", row("last", "B"));
  for (let i = 0; i < 3 && reader.get("last").title !== "B"; i++) {
    await next;
    if (reader.get("last").title !== "B") next = it.read().then(apply);
  }
  await next;
  const byId = (rows) => [...rows.values()].sort((a, b) => (String(a.id) < String(b.id) ? -1 : 1));
  assert.deepEqual(byId(reader), byId(server));
});

test("more than ten thousand unread changes are replaced by a fresh base", async () => {
  const it = streaming([row(1)]);
  await it.read();
  const { uid } = it;
  for (let i = 0; i < 10_001; i++) it.change("create", [row(100 + i)]);
  assert.deepEqual(it.socket.take(), [{ type: "unsubscribe", uid }]);
  it.change("create", [row("late")]);
  it.clock.pass(0.5);
  it.ask();
  assert.notEqual(it.uid, uid);
  assert.equal(it.asked.cursor, undefined);
  it.change("init", [row(3)]);
  assert.deepEqual(await it.read(), { event: "init", data: [row(3)], reset: "restarted" });
});

for (const code of ["FORBIDDEN", "INVALID_QUERY"]) {
  test(`throws ${code}`, async () => {
    const it = world();
    const stream = it.live.subscribe("secrets");
    const [{ uid }] = it.accept();
    const reading = stream[Symbol.asyncIterator]().next();
    const error = { code, message: "No." };
    it.socket.say({ type: "subscribe", status: "error", error, uid });
    await assert.rejects(reading, (thrown) => thrown === it.errors[0] && thrown.code === code);
  });
}

test("hands on what is left before it throws", async () => {
  const it = streaming([row(1)]);
  it.socket.say({
    type: "subscribe",
    status: "error",
    error: { code: "FORBIDDEN", message: "No." },
    uid: it.uid,
  });
  assert.equal((await it.read()).event, "init");
  assert.deepEqual(await it.read(), { event: "delete", data: [1] });
  await assert.rejects(it.read(), { code: "FORBIDDEN" });
});

test("does not throw for an error that passes: it goes on when the server can", async () => {
  const it = streaming([row(1)]);
  await it.read();
  const next = it.read();
  const error = { code: "SERVICE_UNAVAILABLE", message: "Later." };
  it.socket.say({ type: "subscription", status: "error", error, uid: it.uid });
  await settle();
  it.clock.pass(0.5);
  it.ask();
  it.change("init", [row(2)]);
  assert.deepEqual(await next, { event: "init", data: [row(2)], reset: "restarted" });
});

test("ends with unsubscribe and with close, and throws when the session has ended", async () => {
  for (const [act, ended] of [
    [(it) => it.stream.unsubscribe(), true],
    [(it) => it.live.close(), true],
    [(it) => it.socket.drop(4403), false],
  ]) {
    const it = streaming();
    await it.read();
    const next = it.messages.next();
    await settle();
    act(it);
    if (ended) assert.deepEqual(await next, { value: undefined, done: true });
    else await assert.rejects(next, { code: 4403 });
  }
});

test("throws when what is followed may not be seen any more, and takes it back first", async () => {
  const it = streaming([row(1)]);
  await it.read();
  const next = it.read();
  const error = { code: "FORBIDDEN", message: "Not for you." };
  it.socket.say({ type: "subscription", status: "error", error, uid: it.uid });
  assert.deepEqual(await next, { event: "delete", data: [1] });
  await assert.rejects(it.messages.next(), { code: "FORBIDDEN" });
});

test("a subscription with a handler is not an iterator", () => {
  const { live } = world();
  assert.equal(
    live.subscribe("pages", {}, () => {})[Symbol.asyncIterator],
    undefined,
  );
});

test("options may stand in the handler's place", () => {
  const { live, accept } = world();
  live.subscribe("pages", {}, { event: "create" });
  assert.equal(accept()[0].event, "create");
});
