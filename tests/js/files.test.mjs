// The shipped files: small, native, and safe under a strict CSP.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

const shipped = (name) =>
  readFileSync(new URL(`../../wagtail_live/static/wagtail_live/${name}`, import.meta.url), "utf8");
const core = shipped("wagtail-live.js");
const dom = shipped("wagtail-live-dom.js");
const events = shipped("wagtail-live-events.js");

for (const [name, text, limit] of [
  ["core", core, 4096],
  ["event stream", events, 5120],
]) {
  test(`the ${name} is at most ${limit} bytes, gzipped, comments included`, () => {
    const size = gzipSync(text, { level: 9 }).length;
    assert.ok(size <= limit, `${size} bytes`);
  });
}

test("the core imports nothing but the event stream and the binder, and these only on demand", () => {
  assert.deepEqual(core.match(/\bimport\b[^.].*/g), [
    'import("./wagtail-live-events.js")',
    'import("./wagtail-live-dom.js")',
  ]);
});

test("these import nothing: a second core under another name would be a second connection", () => {
  for (const text of [dom, events]) {
    assert.equal(/^\s*import\b|\bimport\s*\(/m.test(text), false);
  }
});

test("nothing makes code out of text, and the core makes no HTML", () => {
  for (const text of [core, dom, events]) {
    assert.equal(/\beval\b|new Function|document\.write|insertAdjacentHTML/.test(text), false);
  }
  assert.equal(/innerHTML|outerHTML|trustedTypes/.test(core + events), false);
});
