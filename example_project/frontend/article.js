// One article, and a few more below it.

import { showBody } from "./body.js";
import { CARD_FIELDS, names, showCards } from "./cards.js";
import { make, safeAddress, setAttribute, setImage, setText, setTime, showRows } from "./dom.js";
import { LiveRows, byDate } from "./live-rows.js";
import { sayUpdated } from "./status.js";
import { language } from "./words.js";

const FIELDS =
  "lead,date,image_teaser,body,tags,related_links," +
  "categories(name),author(name,role,portrait_thumbnail)";
const RETRY_SECONDS = 15;

const element = (id) => document.getElementById(id);
const part = (name) => document.querySelector(`#article [data-part="${name}"]`);

export function showArticlePage(live) {
  const id = Number(new URLSearchParams(location.search).get("id"));
  let subscription;

  const follow = () => {
    subscription = live.subscribe(`pages/${id}`, { fields: FIELDS }, ({ event, data }) => {
      if (event === "delete") return disappear(true);
      const row = event === "init" ? data : data.at(-1);
      const isChange = event !== "init";
      show(row, isChange && !element("article").hidden);
      if (isChange) sayUpdated();
    });
  };
  // The server does not say whether it never was or may not be seen. It may come (back).
  live.on("error", (error) => {
    if (error.subscription !== subscription) return;
    disappear(false);
    setTimeout(follow, RETRY_SECONDS * 1000);
  });
  if (id) follow();
  else disappear(false);

  new LiveRows(
    live,
    "pages",
    {
      type: "newsroom.ArticlePage",
      locale: language,
      fields: CARD_FIELDS,
      order: "-date",
      limit: 12,
    },
    {
      compare: byDate,
      count: 4,
      show(rows, event) {
        const others = rows.filter((row) => row.id !== id).slice(0, 3);
        element("further").hidden = !others.length;
        showCards(element("stories"), others, { quietly: event === "init" });
      },
    },
  );
}

function disappear(isChange) {
  element("article").hidden = true;
  for (const name of ["title", "lead", "kicker", "author", "role"]) setText(part(name), "", false);
  showBody(part("body"), [], false);
  element("gone").hidden = false;
  document.title = "The Tidewell Courier";
  if (isChange) sayUpdated();
}

function show(row, shown) {
  element("gone").hidden = true;
  element("article").hidden = false;
  document.title = `${row.title} – The Tidewell Courier`;
  setText(part("kicker"), names(row.categories), shown);
  setText(part("title"), row.title, shown);
  setText(part("lead"), row.lead, shown);
  setText(part("author"), row.author?.name, shown);
  setText(part("role"), row.author?.role, shown);
  setImage(part("portrait"), row.author?.portrait_thumbnail, shown);
  setAttribute(part("portrait"), "alt", "");
  setTime(part("time"), row.date);
  setImage(part("image"), row.image_teaser, shown);
  showBody(part("body"), row.body ?? [], shown);
  showLinks(row.related_links ?? []);
  showTags(row.tags ?? []);
}

function showLinks(links) {
  part("links-section").hidden = !links.length;
  showRows(part("links"), links, {
    key: (link) => link.id,
    create: () => make("li", {}, make("a")),
    update(node, { title, url }) {
      setText(node.firstElementChild, title, false);
      setAttribute(node.firstElementChild, "href", safeAddress(url) ?? "#");
    },
  });
}

function showTags(tags) {
  part("tags").hidden = !tags.length;
  showRows(part("tags"), tags, {
    key: (tag) => tag,
    create: (tag) => make("li", {}, tag),
    update() {},
  });
}
