/** Types of wagtail-live.js. The manual is docs/reference/client.md. */

export type Status = "connecting" | "connected" | "reconnecting" | "closed";

/** A row of a collection, or one object: the JSON of the site's own API. */
export interface Row {
  id: number | string;
}

export type Key = number | string;

export type ChangeEvent = "create" | "update" | "delete";

export interface InitMessage<Data> {
  event: "init";
  /** The rows of a collection, or the one object. Empty with an `event` filter. */
  data: Data;
  meta?: { total_count?: number; [name: string]: unknown };
  /** Why all that was held must be replaced by this. Absent from the first init. */
  reset?: string;
}

export interface RowsMessage<R extends Row> {
  event: "create" | "update";
  data: R[];
}

export interface DeleteMessage {
  event: "delete";
  data: Key[];
}

export type Message<R extends Row, Data = R[]> = InitMessage<Data> | RowsMessage<R> | DeleteMessage;

export type QueryValue = string | number | boolean;

/** What one would put in the query string of the API. */
export type Query = string | { readonly [name: string]: QueryValue | readonly QueryValue[] };

export interface SubscribeOptions {
  /** Only changes of this kind; the init then has no data. */
  event?: ChangeEvent;
}

export interface Subscription {
  unsubscribe(): void;
}

/** A subscription without a handler: `for await` reads it, `break` unsubscribes. */
export interface Stream<M> extends Subscription {
  [Symbol.asyncIterator](): AsyncGenerator<M, void, void>;
}

export interface LiveError extends Error {
  /**
   * A code of the server, a close code, "MALFORMED_FRAME", "CONNECTION_FAILED" or "STREAM_BUFFERED".
   */
  code: string | number;
  /** The subscription it is about, if it is about one. */
  subscription?: Subscription;
}

export interface Live {
  readonly status: Status;

  /** One object: `collection/id`. */
  subscribe<R extends Row = Row & Record<string, any>>(
    path: `${string}/${string}`,
    query: Query | null | undefined,
    handler: (message: Message<R, R>) => unknown,
    options?: SubscribeOptions,
  ): Subscription;
  subscribe<R extends Row = Row & Record<string, any>>(
    path: `${string}/${string}`,
    query?: Query | null,
    options?: SubscribeOptions,
  ): Stream<Message<R, R>>;

  /** The rows of a collection. */
  subscribe<R extends Row = Row & Record<string, any>>(
    path: string,
    query: Query | null | undefined,
    handler: (message: Message<R>) => unknown,
    options?: SubscribeOptions,
  ): Subscription;
  subscribe<R extends Row = Row & Record<string, any>>(
    path: string,
    query?: Query | null,
    options?: SubscribeOptions,
  ): Stream<Message<R>>;

  /** Answers a function that ends the listening. */
  on(name: "status", listener: (status: Status) => unknown): () => void;
  on(name: "error", listener: (error: LiveError) => unknown): () => void;

  /** Ends all subscriptions and the connection, for good. */
  close(): void;
}

export interface Clock {
  setTimeout(action: () => void, milliseconds: number): any;
  clearTimeout(timer: any): void;
}

export interface TransportEvents {
  opened(): void;
  received(text: string): void;
  /** With a close code, or with a code and a message for the `error` listeners. */
  lost(code?: number | string, message?: string): void;
  /** What is followed now, by uid; for transports that say it in one piece. */
  readonly followed: ReadonlyMap<
    string,
    { readonly request: object; readonly uid: string; readonly cursor?: string }
  >;
}

/** Opens one link. After its `close()` it must tell nothing more. */
export type Transport = (
  url: string,
  options: ConnectOptions & {
    readonly window: any;
    readonly clock: Clock;
    readonly random: () => number;
    readonly WebSocket: ConnectOptions["WebSocket"];
    readonly heartbeatSeconds: number;
    readonly backoff: { min: number; max: number };
  },
  events: TransportEvents,
) => { send(text: string): void; close(): void };

/** What an `auth` message may say. */
export type Credentials = { access_token: string } | { ticket: string };

export interface ConnectOptions {
  /**
   * Who connects, asked anew for each connection, before anything is subscribed. Nothing: whoever the
   * cookies say. When it fails, the connection is tried again later.
   */
  auth?: () => Credentials | null | undefined | Promise<Credentials | null | undefined>;
  /** Bounds of the wait before a new attempt, in seconds: 0.5 and 30. */
  backoff?: { min?: number; max?: number };
  /** The server's heartbeat, 30: a link silent for two and a half of them is given up. */
  heartbeatSeconds?: number;
  WebSocket?: new (url: string) => any;
  /**
   * Where the event stream is, relative to the WebSocket: "live/events/". The client turns to it when
   * WebSockets do not get through. With `null` it never does.
   */
  eventsUrl?: string | null | undefined;
  /** Something else in the place of both. */
  transport?: Transport;
  clock?: Clock;
  random?: () => number;
  /** Where `online`, `visibilitychange`, `pagehide` and `pageshow` are heard. */
  window?: any;
}

/** Opens the connection at once. Throws a TypeError when `url` is no URL. */
export function connect(url: string | URL, options?: ConnectOptions): Live;
