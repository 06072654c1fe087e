// Checked by `tsc --noEmit`, never run: what callers may write, and what the compiler must refuse.

import {
  connect,
  type Key,
  type Live,
  type LiveError,
  type Message,
  type Status,
  type Stream,
  type Subscription,
  type Transport,
} from "../../wagtail_live/static/wagtail_live/wagtail-live.js";
import { eventStream } from "../../wagtail_live/static/wagtail_live/wagtail-live-events.js";

interface Article {
  id: number;
  title: string;
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function is<_T extends true>(): void {}

const live: Live = connect("wss://cms.example.com/websocket", {
  backoff: { min: 1 },
  heartbeatSeconds: 10,
  random: () => 0.5,
  WebSocket,
  window: globalThis,
  clock: globalThis,
});
connect(new URL("wss://cms.example.com/"));
connect("/websocket", { transport: eventStream, eventsUrl: "/cms/live/events/" });
connect("/websocket", { eventsUrl: null });
const own: Transport = (url, { clock, backoff }, { opened, received, lost, followed }) => {
  clock.setTimeout(opened, backoff.max);
  for (const { request, uid, cursor } of followed.values()) received(JSON.stringify({ ...request, uid, cursor }));
  lost(1012);
  lost("CONNECTION_FAILED", url);
  return { send: (text: string) => void text, close() {} };
};
connect("/websocket", { transport: own });

is<Equal<typeof live.status, Status>>();
const off: () => void = live.on("status", (status) => is<Equal<typeof status, Status>>());
off();
live.on("error", (error) => {
  is<Equal<typeof error, LiveError>>();
  const code: string | number = error.code;
  return [code, error.message, error.subscription];
});

const list: Subscription = live.subscribe<Article>(
  "pages",
  { type: "newsroom.ArticlePage", limit: 12, live: true, id: [1, 2] },
  (message) => {
    if (message.event === "init") is<Equal<typeof message.data, Article[]>>();
    else if (message.event === "delete") is<Equal<typeof message.data, Key[]>>();
    else is<Equal<typeof message.data, Article[]>>();
  },
  { event: "update" },
);
list.unsubscribe();

live.subscribe<Article>("pages/12", { fields: "title" }, (message) => {
  if (message.event === "init") {
    is<Equal<typeof message.data, Article>>();
    const reset: string | undefined = message.reset;
    return reset;
  }
  if (message.event === "update") is<Equal<typeof message.data, Article[]>>();
});

live.subscribe("pages", "type=newsroom.ArticlePage", (message) => {
  if (message.event === "create") return message.data[0]?.title;
});

async function read(): Promise<void> {
  const stream: Stream<Message<Article>> = live.subscribe<Article>("pages");
  for await (const message of stream) {
    if (message.event === "init") is<Equal<typeof message.data, Article[]>>();
    break;
  }
  for await (const message of live.subscribe<Article>("pages/12", null, { event: "delete" })) {
    if (message.event === "init") is<Equal<typeof message.data, Article>>();
  }
}
void read;

connect("/websocket", { auth: () => null });
connect("/websocket", { auth: async () => ({ ticket: "x" }) });
connect("/websocket", { auth: () => ({ access_token: "x" }) });
// @ts-expect-error: nobody signs in with a password here
connect("/websocket", { auth: () => ({ email: "x", password: "y" }) });

// @ts-expect-error: a subscription with a handler is not read as well
list[Symbol.asyncIterator];
// @ts-expect-error: no such event
live.on("message", () => {});
// @ts-expect-error: the status is read-only
live.status = "closed";
// @ts-expect-error: no such kind of change
live.subscribe("pages", {}, () => {}, { event: "publish" });
// @ts-expect-error: rows have an id
live.subscribe<{ title: string }>("pages", {}, () => {});
// @ts-expect-error: a query holds no objects
live.subscribe("pages", { fields: { title: true } });
