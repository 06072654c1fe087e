// Rich text from the CMS, rebuilt from an allow-list: no attribute, no element beyond it.

import { make, safeAddress } from "./dom.js";
import { address } from "./words.js";

const ALLOWED = new Set(
  ["a", "b", "blockquote", "br", "code", "em", "h2", "h3", "h4", "hr", "i", "li", "ol", "p"].concat(
    ["s", "strong", "sub", "sup", "ul"],
  ),
);
const DROPPED = new Set(["script", "style", "template", "iframe", "object", "embed", "svg", "math"]);

/** Returns the nodes of `html`, safe to put into the page. */
export function richText(html) {
  // A parsed document is inert: nothing in it loads or runs.
  const { body } = new DOMParser().parseFromString(html, "text/html");
  return copyChildren(body);
}

function copyChildren(parent) {
  return [...parent.childNodes].flatMap(copy);
}

function copy(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  const tag = node.localName;
  if (node.nodeType !== Node.ELEMENT_NODE || DROPPED.has(tag)) return [];
  const children = copyChildren(node);
  if (!ALLOWED.has(tag)) return children;
  return make(tag, tag === "a" ? linkAttributes(node) : {}, ...children);
}

function linkAttributes(link) {
  // Wagtail writes a link to a page by its id; this site has its own address for it.
  const href =
    link.getAttribute("linktype") === "page"
      ? address("/article.html", { id: link.id })
      : safeAddress(link.getAttribute("href") ?? "");
  return href ? { href } : {};
}
