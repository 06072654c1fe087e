// wagtail-live-events: the transport of wagtail-live where no WebSocket gets through. On an event
// stream only the server speaks, so what is followed stands in the request, which is made anew when
// that changes. The tabs of an origin share one stream. Manual: docs/reference/client.md

const PING = '{"type":"ping"}';
const ANSWER_SECONDS = 8; // in which a request must be answered
const SIGN_SECONDS = 5; // in which a stream that has begun must say something
const FRESH_SECONDS = 10; // a stream heard within these is there
const LEADER_SECONDS = 5; // in which the tab that holds the stream must answer
const GATHER_SECONDS = 0.05; // in which other tabs say what they follow
const SOON_SECONDS = 0.01;
const LAZY_SECONDS = 5; // what nobody follows any more is asked for a while longer
const REST_SECONDS = 0.5; // between two openings of a stream
const LINE_LIMIT = 2 ** 25; // characters
// Of all tabs together: well below WAGTAIL_LIVE_MAX_SUBSCRIPTIONS and _MAX_MESSAGE_BYTES.
const SHARED_SUBSCRIPTIONS = 40;
const SHARED_CHARACTERS = 40_000;

/** Reads an event stream piece by piece, as https://html.spec.whatwg.org/ tells to interpret it. */
export function streamParser({ data, comment, retry }) {
  let rest = "";
  let lines = [];
  let endedInCR = false;

  function take(line) {
    if (line === "") {
      const text = lines.splice(0).join("\n");
      if (text) data(text);
      return;
    }
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "data") lines.push(value);
    else if (name === "retry") retry();
    else if (name === "") comment();
  }

  return (piece) => {
    if (!piece) return;
    // CR LF is one end of a line, also when it comes in two pieces.
    const text = endedInCR && piece[0] === "\n" ? piece.slice(1) : piece;
    endedInCR = piece.at(-1) === "\r";
    const found = text.split(/\r\n|\n|\r/);
    found[0] = rest + found[0];
    rest = found.pop();
    found.forEach(take);
    if (rest.length > LINE_LIMIT) throw new Error("The event stream has a line without an end.");
  };
}

/** Why the core should not simply come again, as [code, message], or nothing. */
async function refusal(response) {
  const { status } = response;
  const text = await response.text().catch(() => "");
  let error;
  try {
    ({ error } = JSON.parse(text));
  } catch {
    // Not from the server, but from something before it.
  }
  if (error && status === 403) return [4403];
  if (error && [400, 413].includes(status)) return [1009, error.message];
  if (status === 429) return [1009];
  if (status >= 500 && status !== 501) return [];
  const said = error?.message ?? "Something else than an event stream answered";
  return ["CONNECTION_FAILED", `${said} (HTTP status ${status}).`];
}

/** One request and its stream. Answers a function that ends it; after that it tells nothing more. */
function openStream(address, messages, { window, clock, auth }, { alive, frame, again, lost }) {
  const aborting = new AbortController();
  const { signal } = aborting;
  let timer, hasBegun, isFarewell;

  function close() {
    clock.clearTimeout(timer);
    aborting.abort();
  }

  function end(tell, ...reasons) {
    if (signal.aborted) return;
    close();
    tell(...reasons);
  }

  // A buffering proxy may hold back the headers, too.
  function expect(seconds, message) {
    clock.clearTimeout(timer);
    timer = clock.setTimeout(() => end(lost, "STREAM_BUFFERED", message), seconds * 1000);
  }

  function sign(tell, text) {
    if (signal.aborted) return;
    clock.clearTimeout(timer);
    hasBegun = true;
    tell(text);
  }

  const parse = streamParser({
    comment: () => sign(alive),
    data: (text) => sign(frame, text),
    // At first it is advice for an EventSource; later it announces the end of the stream.
    retry: () => (isFarewell = hasBegun),
  });

  async function read() {
    expect(
      ANSWER_SECONDS,
      "The event stream does not begin: the server is not there, or a proxy on the way buffers it.",
    );
    try {
      const message = auth && (await auth());
      if (message) messages.unshift({ type: "auth", ...message });
    } catch ({ message }) {
      end(lost, "CONNECTION_FAILED", message);
    }
    if (signal.aborted) return;
    const response = await (window.fetch ?? fetch)(address, {
      method: "POST",
      body: JSON.stringify(messages), // as text/plain: no preflight
      credentials: "include",
      cache: "no-store",
      signal,
    });
    const isStream = /^text\/event-stream\b/.test(response.headers.get("content-type"));
    if (!response.ok || !isStream) return end(lost, ...(await refusal(response)));
    expect(
      SIGN_SECONDS,
      "The event stream begins but brings nothing: a proxy on the way buffers it.",
    );
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return end(isFarewell ? again : lost);
      parse(decoder.decode(value, { stream: true }));
    }
  }

  read().catch(() => end(lost));
  return close;
}

/** Whom a frame is for, and what the keeper of the stream must know of it. */
function addressee(text) {
  try {
    const { type, status, error, uid, cursor } = JSON.parse(text);
    const [id, own] = uid?.split(":") ?? [];
    const refused = status === "error" && /^sub/.test(type) ? error.code : undefined;
    return { id, uid: own, cursor, refused };
  } catch {
    return {}; // the core reports it
  }
}

/**
 * Keeps one stream for its members, of whom `own` is here. `tell(message, id)` reaches one of them,
 * `tell(message)` all. A member's uid is put behind its id, so those of two cannot be the same.
 */
function keepStream(address, options, own, tell) {
  const { clock } = options;
  const members = new Map(); // id -> Map(uid -> message)
  let close, isAlive, isFresh, isResting, isDue, opening, fading, resting;
  let within = Infinity; // seconds to the next opening

  const asked = () =>
    [...members].flatMap(([id, messages]) =>
      [...messages.values()].map((message) => ({ ...message, uid: `${id}:${message.uid}` })),
    );

  function isTooMuch() {
    const all = asked();
    return all.length > SHARED_SUBSCRIPTIONS || JSON.stringify(all).length > SHARED_CHARACTERS;
  }

  function heard() {
    isFresh = true;
    clock.clearTimeout(fading);
    fading = clock.setTimeout(() => (isFresh = false), FRESH_SECONDS * 1000);
  }

  function frame(text) {
    heard();
    const { id, uid, cursor, refused } = addressee(text);
    if (id === undefined) return tell({ text });
    const messages = members.get(id);
    const message = messages?.get(uid);
    if (!message) return;
    message.cursor = cursor ?? message.cursor;
    if (refused) messages.delete(uid);
    tell({ text: text.replace(`"${id}:`, '"') }, id);
    if (refused === "TOO_MANY_SUBSCRIPTIONS") sendAway(id);
  }

  /** A member that does not fit in opens a stream of its own; never the one that is here. */
  function sendAway(id) {
    const guest = id === own ? [...members.keys()].find((other) => other !== own) : id;
    if (guest === undefined) return;
    members.delete(guest);
    openWithin(SOON_SECONDS);
    tell({ isFull: true }, guest);
  }

  function open() {
    within = Infinity;
    isDue = isResting;
    if (isResting) return;
    isResting = true;
    resting = clock.setTimeout(() => {
      isResting = false;
      if (isDue) open();
    }, REST_SECONDS * 1000);
    close?.();
    close = openStream(address, asked(), options, {
      frame,
      alive() {
        isAlive = true;
        heard();
        tell({ isAlive });
      },
      again: () => openWithin(SOON_SECONDS),
      lost(code, message) {
        end();
        tell({ isLost: true, code, message });
      },
    });
  }

  /** Many changes in a moment are one opening. */
  function openWithin(seconds) {
    if (seconds >= within) return;
    clock.clearTimeout(opening);
    within = seconds;
    opening = clock.setTimeout(open, seconds * 1000);
  }

  function end() {
    for (const timer of [opening, fading, resting]) clock.clearTimeout(timer);
    within = -1;
    close?.();
    members.clear();
  }

  return {
    end,

    /** Takes what a member follows. What it followed before goes on from where the stream is. */
    put(id, messages) {
      const before = members.get(id);
      const entries = messages.map((message) => [
        message.uid,
        before?.get(message.uid) ?? message,
      ]);
      members.set(id, new Map(entries));
      if (!close) openWithin(GATHER_SECONDS);
      else if (messages.some(({ uid }) => !before?.has(uid))) openWithin(SOON_SECONDS);
      else if (before && before.size > messages.length) openWithin(LAZY_SECONDS);
      while (members.size > 1 && members.has(id) && isTooMuch()) sendAway(id);
      if (isAlive && members.has(id)) tell({ isAlive }, id);
    },

    /** Forgets a member that has gone. */
    drop(id) {
      if (members.get(id)?.size) openWithin(LAZY_SECONDS);
      members.delete(id);
    },

    /** Is the stream still there? What comes of it is the answer. */
    probe() {
      if (isFresh) tell({ isAlive });
      else openWithin(SOON_SECONDS);
    },
  };
}

const randomName = () => `${Math.random()}${Math.random()}`.replaceAll("0.", "");

/** A stream for this client alone. */
function keepAlone(address, options, own, { messages, hear }) {
  const stream = keepStream(address, options, own, hear);
  const say = () => stream.put(own, messages());
  say();
  return { say, probe: stream.probe, close: stream.end };
}

/**
 * One stream for all tabs of the origin. The one that holds the lock keeps it and tells the others on
 * the channel; when it is gone, however it went, the lock is another's. Each holds a lock of its own
 * name too, by which its going is noticed.
 */
function keepTogether(address, options, own, { messages, hear }) {
  const { window, clock } = options;
  const { locks } = window.navigator;
  const name = `wagtail-live ${address}`;
  const channel = new window.BroadcastChannel(name);
  const leaving = new AbortController();
  const { signal } = leaving;
  let leader; // the name under which the one speaks that is listened to
  let reign; // while this one keeps the stream
  let unanswered;

  function say() {
    clock.clearTimeout(unanswered);
    if (reign) return reign.stream.put(own, messages());
    channel.postMessage({ from: own, messages: messages() });
    // One that is frozen holds the lock and does nothing.
    unanswered = clock.setTimeout(() => stand({ steal: true }), LEADER_SECONDS * 1000);
  }

  const lead = () =>
    new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const title = randomName();
      const watching = new AbortController();
      const guests = new Set();
      const tell = (message, to) => {
        if (to !== own) channel.postMessage({ ...message, leader: title, to });
        if (to === undefined || to === own) hear(message);
      };
      const stream = keepStream(address, options, own, tell);
      reign = {
        stream,
        welcome(guest, followed) {
          if (!guests.has(guest)) {
            guests.add(guest);
            locks
              .request(`${name} ${guest}`, { signal: watching.signal }, () => stream.drop(guest))
              .catch(() => {});
          }
          tell({ isAnswer: true }, guest);
          stream.put(guest, followed);
        },
        end() {
          reign = undefined;
          watching.abort();
          stream.end();
          channel.postMessage({ isOver: true, leader: title });
          resolve();
        },
      };
      say();
      channel.postMessage({ isLeader: true, leader: title });
    });

  async function stand(how) {
    try {
      await locks.request(name, how, lead);
    } catch (error) {
      if (signal.aborted) return;
      if (error.name !== "AbortError") return hear({ isFull: true });
    }
    reign?.end();
    if (signal.aborted) return;
    say();
    if (!how.steal) stand(how);
  }

  channel.onmessage = ({ data }) => {
    const { from, to, isLeader, isAnswer, isOver } = data;
    if (from !== undefined) {
      if (!reign) return;
      if (data.isProbe) reign.stream.probe();
      else reign.welcome(from, data.messages);
      return;
    }
    if (reign || (to !== undefined && to !== own)) return;
    if (isLeader || isAnswer) leader = data.leader;
    if (data.leader !== leader) return; // one that has lost the lock and does not know it yet
    if (isLeader || isOver) return say();
    clock.clearTimeout(unanswered);
    if (!isAnswer) hear(data);
  };

  locks
    .request(`${name} ${own}`, { signal }, () => {
      say();
      stand({ signal });
      return new Promise((resolve) => signal.addEventListener("abort", resolve));
    })
    .catch(() => signal.aborted || hear({ isFull: true }));

  // A frozen page keeps its lock.
  window.document?.addEventListener?.("freeze", () => hear({ isLost: true }), { signal });

  return {
    say,
    probe: () => (reign ? reign.stream.probe() : channel.postMessage({ from: own, isProbe: true })),
    close() {
      leaving.abort();
      clock.clearTimeout(unanswered);
      reign?.end();
      channel.close();
    },
  };
}

/** The transport: see `transport` in the manual. */
export function eventStream(url, options, { opened, received, lost, followed }) {
  const { window, eventsUrl } = options;
  const address = new URL(eventsUrl ?? "live/events/", url.replace(/^ws/, "http")).href;
  const own = randomName();
  let isOpen, isClosed, isSaying;

  const messages = () =>
    [...followed.values()].map(({ request, uid, cursor }) => ({ ...request, uid, cursor }));

  function hear({ text = PING, isFull, isLost, code, message }) {
    if (isClosed) return;
    if (isLost) return lost(code, message);
    if (isFull) {
      stream.close();
      stream = keepAlone(address, options, own, { messages, hear });
      return;
    }
    if (!isOpen) {
      isOpen = true;
      opened();
    }
    if (!isClosed) received(text);
  }

  // Tabs may be different people.
  const canShare = !options.auth && window.navigator?.locks && window.BroadcastChannel;
  let stream = (canShare ? keepTogether : keepAlone)(address, options, own, { messages, hear });

  return {
    send(text) {
      const { type } = JSON.parse(text);
      if (type === "ping") stream.probe();
      if (isSaying || !/subscribe$/.test(type)) return;
      isSaying = true;
      queueMicrotask(() => {
        isSaying = false;
        if (!isClosed) stream.say();
      });
    },
    close() {
      isClosed = true;
      stream.close();
    },
  };
}
