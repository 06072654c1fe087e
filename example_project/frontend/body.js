// The parts of an article's body. A part is known by its id, and made anew only if it changed.

import { highlight, make, showRows } from "./dom.js";
import { fillNotice } from "./notices.js";
import { richText } from "./rich-text.js";
import { say } from "./words.js";

const PARTS = {
  heading: (text) => [make("h2", {}, text)],
  paragraph: (html) => richText(html),
  picture({ image, caption }) {
    if (!image) return [];
    const { url, alt, width, height } = image;
    const picture = make("img", { src: url, alt, width, height, loading: "lazy" });
    return [make("figure", {}, picture, ...(caption ? [make("figcaption", {}, caption)] : []))];
  },
  quote({ text, attribution }) {
    const by = attribution ? [make("footer", {}, attribution)] : [];
    return [make("blockquote", {}, make("p", {}, text), ...by)];
  },
  author(author) {
    if (!author) return [];
    const { name, role, bio, portrait } = author;
    const picture = portrait
      ? [make("img", { src: portrait, alt: "", width: 72, height: 72, loading: "lazy" })]
      : [];
    const words = make("div", {}, make("strong", {}, name), " ", make("span", {}, role));
    words.append(make("p", {}, bio));
    return [make("aside", { class: "person", "aria-label": say("author") }, ...picture, words)];
  },
  notice(notice) {
    if (!notice) return [];
    const node = make("p", { class: "notice" }, make("a"));
    fillNotice(node, notice, false);
    return [make("aside", {}, node)];
  },
};

export function showBody(parent, parts, shown) {
  showRows(parent, parts.filter(({ type }) => type in PARTS), {
    key: ({ id }) => id,
    create: ({ type }) => make("div", { class: `part ${type}` }),
    update(node, { type, value }, isNew) {
      const text = JSON.stringify(value);
      if (node.shownValue === text) return;
      node.shownValue = text;
      node.replaceChildren(...PARTS[type](value));
      if (shown) highlight(node);
    },
  });
}
