// wagtail-live-dom: shows what wagtail-live follows in the elements of a page that ask for it.
// It never imports the core, which hands itself in. Manual: docs/reference/client.md

const OBJECT = "data-wagtail-live";
const QUERY = "data-wagtail-live-query";
const FIELD = "data-wagtail-live-field";
const ATTR = "data-wagtail-live-attr";
const HTML = "data-wagtail-live-html";
const STATE = "data-wagtail-live-state";
const STATUS = "data-wagtail-live-status";
const OURS = [OBJECT, FIELD, ATTR].map((name) => `[${name}]`).join();

// Addresses are set only where the browser fetches an image or follows a link, never where it runs.
const ADDRESSES = {
  href: { elements: ["a", "area"], schemes: ["http:", "https:", "mailto:"] },
  src: { elements: ["img", "audio", "video", "source"], schemes: ["http:", "https:"] },
};
const TEXTS = [
  "alt",
  "aria-description",
  "aria-label",
  "datetime",
  "dir",
  "height",
  "hreflang",
  "lang",
  "title",
  "width",
];

/** The value at a dotted path, looking at own properties alone. */
export function valueAt(row, path) {
  let value = row;
  for (const name of path.trim().split(".")) {
    if (value === null || typeof value !== "object" || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}

/** Text, numbers and booleans can be shown; anything else is shown as nothing. */
export function textOf(value) {
  return ["string", "number", "boolean"].includes(typeof value) ? String(value) : "";
}

/** "href:meta.html_url; alt:image.alt" as pairs of attribute and path. */
export function attributeRules(text) {
  return text
    .split(";")
    .map((rule) => rule.split(":").map((part) => part.trim()))
    .filter((rule) => rule.length === 2 && rule[0] && rule[1])
    .map(([name, path]) => [name.toLowerCase(), path]);
}

/** The value to set, null where the attribute must go, undefined where it must not be touched. */
export function attributeValue(element, name, value, base) {
  const text = textOf(value);
  if (TEXTS.includes(name)) return text;
  if (!Object.hasOwn(ADDRESSES, name)) return undefined;
  const { elements, schemes } = ADDRESSES[name];
  if (!elements.includes(element)) return undefined;
  try {
    return text && schemes.includes(new URL(text, base).protocol) ? text : null;
  } catch {
    return null;
  }
}

/** The one row of a message about one object. */
export function rowOf({ event, data }) {
  const row = Array.isArray(data) ? data.at(-1) : data;
  return event === "delete" ? undefined : row;
}

let policy;

/** What innerHTML takes, or undefined where the page's CSP refuses the policy. */
function trusted(html) {
  if (!globalThis.trustedTypes) return html;
  try {
    policy ??= globalThis.trustedTypes.createPolicy("wagtail-live", { createHTML: (text) => text });
    return policy.createHTML(html);
  } catch {
    return undefined;
  }
}

const shown = new WeakMap(); // element -> the HTML it was given, which the browser may spell otherwise

function showHTML(element, html) {
  if (shown.get(element) === html || element.innerHTML === html) return;
  const value = trusted(html);
  if (value === undefined) return showText(element, html);
  shown.set(element, html);
  element.innerHTML = value;
}

function showText(element, text) {
  // Setting equal text would still lose the reader's selection.
  if (element.textContent !== text) element.textContent = text;
}

function showAttributes(element, row) {
  for (const [name, path] of attributeRules(element.getAttribute(ATTR))) {
    const base = element.baseURI;
    const value = attributeValue(element.localName, name, valueAt(row, path), base);
    if (value === null) element.removeAttribute(name);
    else if (value !== undefined && element.getAttribute(name) !== value) {
      element.setAttribute(name, value);
    }
  }
}

function show(element, row) {
  // The text of these two is code.
  if (element.hasAttribute(FIELD) && !["script", "style"].includes(element.localName)) {
    const text = textOf(valueAt(row, element.getAttribute(FIELD)));
    if (element.hasAttribute(HTML)) showHTML(element, text);
    else showText(element, text);
  }
  if (element.hasAttribute(ATTR)) showAttributes(element, row);
}

// What stands in an HTML field is content: it binds nothing, or an editor's text could.
const isContent = (element) => Boolean(element.parentElement?.closest(`[${HTML}]`));

/** The elements that show `element`'s object: not those of another object inside it. */
function fieldsOf(element) {
  return [element, ...element.querySelectorAll(`[${FIELD}],[${ATTR}]`)].filter(
    (field) => field.closest(`[${OBJECT}]`) === element && !isContent(field),
  );
}

/**
 * Follows what the elements below `root` name, from now on and as elements come and go.
 * `options` are those of `connect`, and `url`. The connection opens with the first element.
 */
export function bind(connect, { url, root, ...options }) {
  const page = root.documentElement ?? root.ownerDocument.documentElement;
  const bindings = new Map(); // key -> { elements, fields, row, subscription, … }
  const keys = new Map(); // element -> key
  let live;
  let lists = 0;

  function open() {
    live = connect(url, options);
    const showStatus = (status) => page.setAttribute(STATUS, status);
    showStatus(live.status);
    live.on("status", showStatus);
    live.on("error", (error) => {
      console.warn(`wagtail-live: ${error.message} (${error.code})`);
      if (error.code !== "FORBIDDEN") return;
      // A missing object and a hidden one look the same: either way there is nothing to show.
      for (const binding of bindings.values()) {
        if (binding.subscription !== error.subscription) continue;
        if (binding.message?.event !== "delete") receive(binding, { event: "delete", data: [] });
      }
    });
  }

  function tell(element, binding, message) {
    if (binding.isObject) {
      if (binding.row) for (const field of fieldsOf(element)) showOnce(binding, field);
    }
    const isGone = message.event === "delete" && (binding.isObject || !message.data.length);
    element.setAttribute(STATE, isGone ? "gone" : "live");
    element.dispatchEvent(
      new CustomEvent("wagtail-live:change", { bubbles: true, composed: true, detail: message }),
    );
  }

  function showOnce(binding, field) {
    if (binding.fields.has(field)) return;
    binding.fields.add(field);
    show(field, binding.row);
  }

  function receive(binding, message) {
    binding.row = rowOf(message);
    binding.message = message;
    binding.fields = new WeakSet();
    for (const element of [...binding.elements]) tell(element, binding, message);
  }

  function keyOf(element) {
    const path = element.getAttribute(OBJECT).trim();
    const query = element.getAttribute(QUERY) ?? "";
    return { path, query, isObject: path.includes("/"), text: `${path}\n${query}` };
  }

  function add(element) {
    const { path, query, isObject, text } = keyOf(element);
    if (!path) return;
    if (!live) open();
    // A list keeps no rows for an element that comes later: each has a subscription of its own.
    const key = isObject ? text : `${text}\n${++lists}`;
    keys.set(element, { key, text });
    const known = bindings.get(key);
    if (known) {
      known.elements.add(element);
      if (known.row) tell(element, known, { event: "init", data: known.row });
      else if (known.message) tell(element, known, known.message);
      return;
    }
    const binding = { elements: new Set([element]), fields: new WeakSet(), isObject };
    bindings.set(key, binding);
    binding.subscription = live.subscribe(path, query || undefined, (message) =>
      receive(binding, message),
    );
  }

  function remove(element) {
    const { key } = keys.get(element);
    const binding = bindings.get(key);
    keys.delete(element);
    binding.elements.delete(element);
    if (binding.elements.size) return;
    binding.subscription.unsubscribe();
    bindings.delete(key);
  }

  /** Makes the bindings equal to the page. */
  function sync() {
    const found = new Set(
      [root, ...root.querySelectorAll(`[${OBJECT}]`)].filter(
        (element) => element.hasAttribute?.(OBJECT) && !isContent(element),
      ),
    );
    const before = [...keys].filter(
      ([element, { text }]) => !found.has(element) || keyOf(element).text !== text,
    );
    // Added before removed: an object that only moved keeps its subscription.
    const after = [...found].filter((element) => !keys.has(element));
    for (const element of after) add(element);
    for (const [element] of before) {
      remove(element);
      if (found.has(element)) add(element);
    }
    for (const [element, { key }] of keys) {
      const binding = bindings.get(key);
      if (!binding.row) continue;
      for (const field of fieldsOf(element)) showOnce(binding, field);
    }
  }

  const concerns = (node) => node.matches?.(OURS) || node.querySelector?.(OURS);
  const observer = new MutationObserver((records) => {
    const changed = records.some(
      ({ type, addedNodes, removedNodes }) =>
        type === "attributes" || [...addedNodes, ...removedNodes].some(concerns),
    );
    if (changed) sync();
  });
  observer.observe(root, {
    subtree: true,
    childList: true,
    attributes: true,
    attributeFilter: [OBJECT, QUERY],
  });
  sync();

  return {
    get live() {
      return live;
    },
    unbind() {
      observer.disconnect();
      live?.close();
      page.removeAttribute(STATUS);
    },
  };
}

/** Follows what the markup of the page names; `data` are the attributes of the script tag. */
export const bindPage = (connect, { url, eventsUrl }) =>
  bind(connect, { url, eventsUrl, root: document });
