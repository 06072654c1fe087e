// The front page, or one section of it.

import { CARD_FIELDS, showCards } from "./cards.js";
import { setText } from "./dom.js";
import { LiveRows, byDate } from "./live-rows.js";
import { sayUpdated } from "./status.js";
import { language } from "./words.js";

const STEP = 12;
const element = (id) => document.getElementById(id);

export function showFrontPage(live, sections) {
  let articles;
  let followed;

  sections.onChange((section, isUnknown) => {
    showHead(section);
    const wanted = isUnknown ? undefined : (section?.id ?? "all");
    if (followed === wanted) return;
    followed = wanted;
    articles?.stop();
    articles = wanted && follow(wanted);
  });

  function follow(wanted) {
    const query = {
      type: "newsroom.ArticlePage",
      locale: language,
      fields: CARD_FIELDS,
      order: "-date",
      limit: 60,
      ...(wanted !== "all" && { child_of: wanted }),
    };
    const rows = new LiveRows(live, "pages", query, {
      compare: byDate,
      count: STEP,
      show(shown, event) {
        const isChange = ["create", "update", "delete"].includes(event);
        showCards(element("stories"), shown, { quietly: !isChange });
        element("stories").removeAttribute("aria-busy");
        element("empty").hidden = shown.length > 0;
        element("more").hidden = !rows.hasMore;
        if (isChange) sayUpdated();
      },
    });
    element("more").onclick = () => rows.showMore(STEP);
    return rows;
  }

  function showHead(section) {
    element("section-head").hidden = !section;
    element("front-title").hidden = Boolean(section);
    setText(element("section-title"), section?.title, false);
    setText(element("section-intro"), section?.intro, false);
    document.title = [section?.title, "The Tidewell Courier"].filter(Boolean).join(" – ");
  }
}
