// The binder's decisions that need no page: which value, which text, which attribute.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  attributeRules,
  attributeValue,
  rowOf,
  textOf,
  valueAt,
} from "../../wagtail_live/static/wagtail_live/wagtail-live-dom.js";

const base = "https://www.example.com/news/";

test("a dotted path leads to a value, an index or nothing", () => {
  const row = { title: "T", meta: { slug: "s" }, author: null, tags: ["a", "b"] };
  assert.equal(valueAt(row, "title"), "T");
  assert.equal(valueAt(row, " meta.slug "), "s");
  assert.equal(valueAt(row, "tags.1"), "b");
  for (const path of ["author.name", "meta.slug.x", "nothing", "", "meta..slug"]) {
    assert.equal(valueAt(row, path), undefined, path);
  }
});

test("a path does not leave the row's own properties", () => {
  for (const path of ["constructor", "__proto__", "title.length", "toString.name"]) {
    assert.equal(valueAt({ title: "T" }, path), undefined, path);
  }
});

test("text, numbers and booleans are shown, anything else is empty", () => {
  assert.deepEqual(
    ["<b>", 0, false, null, undefined, {}, []].map(textOf),
    ["<b>", "0", "false", "", "", "", ""],
  );
});

test("attribute rules are pairs; what is no pair is passed over", () => {
  assert.deepEqual(attributeRules(" HREF: meta.html_url ; alt:image.alt;; x; :y; z: ; a:b:c"), [
    ["href", "meta.html_url"],
    ["alt", "image.alt"],
  ]);
});

for (const value of [
  "https://example.com/",
  "http://example.com/",
  "/path",
  "path?x#y",
  "//example.com",
  "mailto:a@example.com",
]) {
  test(`a link may go to ${value}`, () => {
    assert.equal(attributeValue("a", "href", value, base), value);
  });
}

for (const value of [
  "javascript:alert(1)",
  " JaVaScRiPt:alert(1)",
  "java\nscript:alert(1)",
  "\u0001javascript:alert(1)",
  "data:text/html,x",
  "vbscript:x",
  "blob:https://example.com/1",
  "file:///etc/passwd",
  "http://[",
  "",
  null,
]) {
  test(`a link may not go to ${JSON.stringify(value)}: the attribute goes`, () => {
    assert.equal(attributeValue("a", "href", value, base), null);
  });
}

test("an image has an address of http(s) only", () => {
  assert.equal(attributeValue("img", "src", "/media/a.jpg", base), "/media/a.jpg");
  assert.equal(attributeValue("img", "src", "mailto:a@example.com", base), null);
  assert.equal(attributeValue("img", "src", "data:image/svg+xml,x", base), null);
});

for (const [element, name] of [
  ["script", "src"],
  ["iframe", "src"],
  ["embed", "src"],
  ["base", "href"],
  ["link", "href"],
  ["use", "href"],
  ["a", "onclick"],
  ["a", "style"],
  ["a", "id"],
  ["iframe", "srcdoc"],
  ["form", "action"],
  ["button", "formaction"],
  ["div", "data-controller"],
  ["a", "constructor"],
]) {
  test(`${name} of ${element} is never touched`, () => {
    assert.equal(attributeValue(element, name, "/x", base), undefined);
  });
}

test("other safe attributes take the text, and nothing as the empty text", () => {
  assert.equal(attributeValue("img", "alt", 'A "b"', base), 'A "b"');
  assert.equal(attributeValue("img", "alt", null, base), "");
  assert.equal(attributeValue("img", "width", 800, base), "800");
});

test("the row of a message about one object", () => {
  assert.deepEqual(rowOf({ event: "init", data: { id: 1 } }), { id: 1 });
  assert.deepEqual(rowOf({ event: "update", data: [{ id: 1 }] }), { id: 1 });
  assert.equal(rowOf({ event: "delete", data: [1] }), undefined);
});
