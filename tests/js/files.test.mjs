// The shipped files: small, native, and safe under a strict CSP.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

const shipped = (name) =>
  readFileSync(new URL(`../../wagtail_live/static/wagtail_live/${name}`, import.meta.url), "utf8");
const core = shipped("wagtail-live.js");
const dom = shipped("wagtail-live-dom.js");

test("the core is at most 4 KB, gzipped, comments included", () => {
  const size = gzipSync(core, { level: 9 }).length;
  assert.ok(size <= 4096, `${size} bytes`);
});

test("the core imports nothing but the binder, and that only on demand", () => {
  assert.deepEqual(core.match(/\bimport\b[^.].*/g), ['import("./wagtail-live-dom.js")']);
});

test("the binder imports nothing: a second core under another name would be a second connection", () => {
  assert.equal(/^\s*import\b|\bimport\s*\(/m.test(dom), false);
});

test("nothing makes code out of text, and the core makes no HTML", () => {
  for (const text of [core, dom]) {
    assert.equal(/\beval\b|new Function|document\.write|insertAdjacentHTML/.test(text), false);
  }
  assert.equal(/innerHTML|outerHTML|trustedTypes/.test(core), false);
});
