// The banner: active notices, above every page.

import { highlight, make, safeAddress, setAttribute, setText, showRows } from "./dom.js";
import { LiveRows, byId } from "./live-rows.js";
import { sayUpdated } from "./status.js";

const banner = document.getElementById("notices");

export function followNotices(live) {
  new LiveRows(live, "notices", { active: true, limit: 10 }, {
    compare: byId,
    show(rows, event) {
      const isChange = event !== "init";
      showRows(banner, rows, {
        key: (row) => row.id,
        create: () => make("p", { class: "notice" }, make("a")),
        update(node, row, isNew) {
          fillNotice(node, row, isChange && !isNew);
          if (isChange && isNew) highlight(node);
        },
      });
      if (isChange) sayUpdated();
    },
  });
}

/** Fills `<p><a></a></p>` with a notice. */
export function fillNotice(node, { text, level, link }, shown) {
  const inner = node.firstElementChild;
  setAttribute(node, "data-level", level);
  setText(inner, text, shown);
  const href = link && safeAddress(link);
  if (href) setAttribute(inner, "href", href);
  else inner.removeAttribute("href");
}
