// The rows of a collection, kept in order and complete while they change.

/**
 * Follows `query` and calls `show(rows)` with the first `count` rows, each time they change.
 *
 * The server tells every change of the query's objects, also beyond the snapshot's `limit`. So
 * this holds a stretch from the top: what sorts below its last row (the floor) is left out,
 * because rows between may be missing. When removals make the stretch too short, it is asked
 * for anew. More than `query.limit` rows are never shown.
 */
export class LiveRows {
  #live;
  #collection;
  #query;
  #compare;
  #show;
  #subscription;
  #rows = new Map();
  #floor;

  constructor(live, collection, query, { compare, show, count = Infinity }) {
    this.#live = live;
    this.#collection = collection;
    this.#query = query;
    this.#compare = compare;
    this.#show = show;
    this.count = count;
    this.#follow();
  }

  /** Whether `showMore` would show more. */
  get hasMore() {
    return this.count < this.#rows.size;
  }

  showMore(count) {
    this.count += count;
    this.#changed("more");
  }

  stop() {
    this.#subscription.unsubscribe();
  }

  #follow() {
    this.#subscription?.unsubscribe();
    this.#subscription = this.#live.subscribe(this.#collection, this.#query, (message) =>
      this.#receive(message),
    );
  }

  #receive({ event, data, meta }) {
    if (event === "init") {
      this.#rows = new Map(data.map((row) => [row.id, row]));
      this.#floor = meta?.total_count > data.length ? this.#sorted().at(-1) : undefined;
    } else if (event === "delete") {
      for (const id of data) this.#rows.delete(id);
    } else {
      for (const row of data) {
        if (this.#isBelow(row)) this.#rows.delete(row.id);
        else this.#rows.set(row.id, row);
      }
    }
    this.#changed(event);
  }

  #isBelow(row) {
    return this.#floor && this.#compare(row, this.#floor) > 0;
  }

  #sorted() {
    return [...this.#rows.values()].sort(this.#compare);
  }

  #changed(event) {
    if (this.#floor && this.#rows.size < Math.min(this.count, this.#query.limit)) this.#follow();
    this.#show(this.#sorted().slice(0, this.count), event);
  }
}

/** The newest first; of two at the same moment, the later made. */
export const byDate = (one, other) =>
  Date.parse(other.date) - Date.parse(one.date) || other.id - one.id;

export const byId = (one, other) => one.id - other.id;
