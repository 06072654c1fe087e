// Changes the page in place: nodes that stay keep their focus, scroll and selection.

import { showTime } from "./words.js";

/** Makes an element: `make("a", { href, class: "x" }, "text", node)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Gives `element` a soft highlight, once. */
export function highlight(element) {
  element.classList.remove("just-changed");
  void element.offsetWidth; // lets the animation start again
  element.classList.add("just-changed");
  setTimeout(() => element.classList.remove("just-changed"), 3000);
}

export function setText(element, text, shown = true) {
  text ??= "";
  if (element.textContent === text) return;
  element.textContent = text;
  if (shown) highlight(element);
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function setTime(element, iso) {
  setAttribute(element, "datetime", iso);
  setText(element, showTime(new Date(iso)), false);
}

export function setImage(element, image, shown = true) {
  element.hidden = !image?.full_url;
  if (element.hidden || element.getAttribute("src") === image.full_url) return;
  element.src = image.full_url;
  element.alt = image.alt ?? "";
  if (shown) highlight(element);
}

/** Only addresses that a link may lead to. */
export function safeAddress(text) {
  try {
    const url = new URL(text, location.href);
    return /^(https?|mailto):$/.test(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Lets `parent` show `rows`, in order: `create(row)` makes a node, `update(node, row)` fills it.
 * Nodes are known by `key(row)`; only those that must are moved.
 */
export function showRows(parent, rows, { key, create, update }) {
  const held = (parent.heldNodes ??= new Map());
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const wanted = new Set(rows.map(key));
  for (const [id, node] of held) {
    if (wanted.has(id)) continue;
    node.remove();
    held.delete(id);
  }
  let place = parent.firstElementChild;
  for (const row of rows) {
    let node = held.get(key(row));
    const isNew = !node;
    if (isNew) held.set(key(row), (node = create(row)));
    update(node, row, isNew);
    if (node === place) place = place.nextElementSibling;
    else move(parent, node, place);
  }
  if (focused?.isConnected && document.activeElement !== focused) {
    focused.focus({ preventScroll: true });
  }
}

function move(parent, node, place) {
  // moveBefore keeps focus and image state; not every browser has it.
  if (node.isConnected && parent.moveBefore) parent.moveBefore(node, place);
  else parent.insertBefore(node, place);
}

setInterval(() => {
  for (const time of document.querySelectorAll("main time[datetime]")) {
    setTime(time, time.getAttribute("datetime"));
  }
}, 60_000);
