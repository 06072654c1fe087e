// What the page itself says, in its two languages.

const WORDS = {
  en: {
    all: "All news",
    author: "About the author",
    colophon: "A fictitious newspaper. Published with Wagtail, followed live.",
    connected: "Live",
    connecting: "Connecting…",
    closed: "Not connected",
    empty: "No articles here yet. This page fills as soon as one is published.",
    further: "More from the newsroom",
    gone: "This article is no longer available",
    goneWhy: "It was moved or withdrawn. If it returns, it will appear here by itself.",
    language: "Language",
    latest: "Latest news",
    links: "Related links",
    more: "More stories",
    notices: "Notices",
    reconnecting: "Reconnecting…",
    sections: "Sections",
    skip: "Skip to the news",
    tags: "Tags",
    toFront: "To the front page",
    updated: "Updated",
  },
  de: {
    all: "Alle Nachrichten",
    author: "Zur Person",
    colophon: "Eine erfundene Zeitung. Veröffentlicht mit Wagtail, live verfolgt.",
    connected: "Live",
    connecting: "Verbinde …",
    closed: "Nicht verbunden",
    empty: "Hier steht noch nichts. Die Seite füllt sich, sobald etwas erscheint.",
    further: "Mehr aus der Redaktion",
    gone: "Dieser Artikel ist nicht mehr verfügbar",
    goneWhy: "Er wurde verschoben oder zurückgezogen. Kehrt er zurück, erscheint er hier von selbst.",
    language: "Sprache",
    latest: "Aktuelle Nachrichten",
    links: "Links zum Thema",
    more: "Weitere Artikel",
    notices: "Hinweise",
    reconnecting: "Verbinde neu …",
    sections: "Ressorts",
    skip: "Zu den Nachrichten",
    tags: "Schlagwörter",
    toFront: "Zur Titelseite",
    updated: "Aktualisiert",
  },
};

const parameters = new URLSearchParams(location.search);

export const language = parameters.get("lang") === "de" ? "de" : "en";
export const say = (key) => WORDS[language][key];

/** An address of this site in the reader's language. */
export function address(path, query = {}) {
  const search = new URLSearchParams(language === "en" ? query : { ...query, lang: language });
  return search.size ? `${path}?${search}` : path;
}

export function translatePage() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-say]")) {
    element.textContent = say(element.dataset.say);
  }
  for (const element of document.querySelectorAll("[data-say-label]")) {
    element.setAttribute("aria-label", say(element.dataset.sayLabel));
  }
  for (const link of document.querySelectorAll("[data-home]")) link.href = address("/");
  for (const link of document.querySelectorAll(".languages a")) {
    if (link.hreflang === language) link.setAttribute("aria-current", "true");
  }
}

const region = { en: "en-GB", de: "de-DE" }[language];
const day = new Intl.DateTimeFormat(region, { day: "numeric", month: "long", year: "numeric" });
const today = new Intl.DateTimeFormat(region, { dateStyle: "full" });
const clock = new Intl.DateTimeFormat(region, { hour: "2-digit", minute: "2-digit" });
const ago = new Intl.RelativeTimeFormat(region, { numeric: "auto" });

export const showToday = (date) => today.format(date);
export const showClock = (date) => clock.format(date);

/** "5 minutes ago" while it is news, the date later. */
export function showTime(date) {
  const minutes = Math.round((date - Date.now()) / 60_000);
  if (minutes > -60 && minutes <= 0) return ago.format(minutes, "minute");
  if (minutes > -24 * 60 && minutes <= 0) return ago.format(Math.round(minutes / 60), "hour");
  return day.format(date);
}
