// The small sign: connected, reconnecting, updated.

import { say, showClock } from "./words.js";

const sign = document.getElementById("status");
let calm;

function show(state, text) {
  sign.dataset.state = state;
  if (sign.textContent !== text) sign.textContent = text;
}

export function watchStatus(live) {
  const showStatus = (status) => {
    clearTimeout(calm);
    show(status, say(status));
  };
  live.on("status", showStatus);
  showStatus(live.status);
}

/** Says for a while that something changed. */
export function sayUpdated() {
  show("updated", `${say("updated")} ${showClock(new Date())}`);
  clearTimeout(calm);
  calm = setTimeout(() => show("connected", say("connected")), 8000);
}
