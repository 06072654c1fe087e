// An article in a list.

import { highlight, make, setAttribute, setImage, setText, setTime, showRows } from "./dom.js";
import { address } from "./words.js";

/** What a list asks the API for. */
export const CARD_FIELDS = "lead,date,image_teaser,categories(name),author(name)";

export const names = (categories) => (categories ?? [])
    .slice(0, 2)
    .map(({ name }) => name)
    .join(" · ");

export function showCards(list, rows, { quietly }) {
  showRows(list, rows, {
    key: (row) => row.id,
    create,
    update(node, row, isNew) {
      fill(node, row, !isNew && !quietly);
      if (isNew && !quietly) highlight(node);
    },
  });
}

function create({ id }) {
  const part = (tag, name, attributes = {}) => make(tag, { "data-part": name, ...attributes });
  return make(
    "li",
    { class: "card", "data-id": id },
    make(
      "article",
      {},
      part("img", "image", { width: 800, height: 450, loading: "lazy", decoding: "async" }),
      make(
        "div",
        { class: "card-text" },
        part("p", "kicker", { class: "kicker" }),
        make("h2", {}, part("a", "title", { href: address("/article.html", { id }) })),
        part("p", "lead", { class: "lead" }),
        make(
          "p",
          { class: "card-foot" },
          part("span", "author"),
          part("time", "time"),
        ),
      ),
    ),
  );
}

function fill(node, row, shown) {
  const part = (name) => node.querySelector(`[data-part="${name}"]`);
  setImage(part("image"), row.image_teaser, shown);
  setAttribute(part("image"), "alt", ""); // decoration: the headline beside it says it all
  setText(part("kicker"), names(row.categories), shown);
  setText(part("title"), row.title, shown);
  setText(part("lead"), row.lead, shown);
  setText(part("author"), row.author?.name, shown);
  setTime(part("time"), row.date);
}
