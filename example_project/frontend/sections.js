// The section filter: follows the sections, and knows which one is chosen.

import { make, setAttribute, setText, showRows } from "./dom.js";
import { LiveRows, byId } from "./live-rows.js";
import { address, language } from "./words.js";

export function followSections(live) {
  const list = document.getElementById("sections");
  const isFrontPage = document.body.dataset.view === "front-page";
  const listeners = [];
  let rows = [];
  let isKnown = false;

  const chosenSlug = () => new URLSearchParams(location.search).get("section");
  const chosen = () => rows.find(({ meta }) => meta.slug === chosenSlug());

  function changed() {
    showLinks();
    const isUnknown = Boolean(chosenSlug()) && !isKnown;
    for (const listener of listeners) listener(chosen(), isUnknown);
  }

  function showLinks() {
    const all = { id: "all", title: undefined };
    showRows(list, [all, ...rows], {
      key: (row) => row.id,
      create: () => make("li", {}, make("a")),
      update(node, row, isNew) {
        const link = node.firstElementChild;
        const query = row === all ? {} : { section: row.meta.slug };
        if (row !== all) setText(link, row.title, !isNew);
        setAttribute(link, "href", address("/", query));
        const isCurrent = isFrontPage && (row === all ? !chosen() : row === chosen());
        link.toggleAttribute("aria-current", isCurrent);
        if (isCurrent) link.setAttribute("aria-current", "page");
      },
    });
  }

  list.heldNodes = new Map([["all", list.firstElementChild]]);
  if (isFrontPage) {
    // Another section is another query on the same connection, not another page load.
    list.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      history.pushState(null, "", link.href);
      changed();
    });
    addEventListener("popstate", changed);
  }

  const query = { type: "newsroom.SectionPage", locale: language, fields: "intro", limit: 20 };
  new LiveRows(live, "pages", query, {
    compare: byId,
    show(shown) {
      rows = shown;
      isKnown = true;
      changed();
    },
  });

  return {
    onChange(listener) {
      listeners.push(listener);
      listener(chosen(), Boolean(chosenSlug()) && !isKnown);
    },
  };
}
