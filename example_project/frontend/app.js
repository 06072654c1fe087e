// Starts a page of the newsroom. One connection brings everything it shows, and what changes.

import { connect } from "./wagtail_live/wagtail-live.js";
import { showArticlePage } from "./article.js";
import { showFrontPage } from "./front-page.js";
import { followNotices } from "./notices.js";
import { followSections } from "./sections.js";
import { watchStatus } from "./status.js";
import { showToday, translatePage } from "./words.js";

translatePage();
document.getElementById("today").textContent = showToday(new Date());

const config = await (await fetch("/config.json")).json();
const live = connect(config.websocket);

watchStatus(live);
followNotices(live);
const sections = followSections(live);
if (document.body.dataset.view === "article") showArticlePage(live);
else showFrontPage(live, sections);
