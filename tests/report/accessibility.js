// Rules of accessibility that a page can be checked for; gives one line for each breach.
() => {
  const found = [], all = (selector) => [...document.querySelectorAll(selector)], say = (rule, element) =>
    found.push(`${rule}: ${element.tagName} ${element.id || element.className || element.textContent.slice(0, 40)}`);
  const named = (element) => (element.getAttribute("aria-label") || element.textContent || "").trim()
    || (element.labels && [...element.labels].map((label) => label.textContent.trim()).join(""));
  if (document.documentElement.lang !== "en") found.push("no language");
  if (!document.title) found.push("no title");
  for (const [selector, count] of [["main", 1], ["h1", 1], ["nav", 1], ["body > header", 1], ["footer", 1]])
    if (all(selector).length !== count) found.push(`${all(selector).length} of ${selector}`);
  for (const element of all("button, a, summary")) if (!named(element)) say("no name", element);
  for (const element of all("input, select, textarea"))
    if (!element.getAttribute("aria-label") && !(element.labels && element.labels.length && named(element.labels[0]))) say("no label", element);
  for (const element of all("svg")) if (element.getAttribute("role") !== "img" || !element.getAttribute("aria-label")) say("drawing without name", element);
  for (const element of all("table")) {
    if (!element.caption || !element.caption.textContent.trim()) say("no caption", element);
    for (const head of element.querySelectorAll("th")) if (!head.scope) say("no scope", head);
    for (const row of element.querySelectorAll("tbody tr")) if (row.querySelectorAll("th[scope=row]").length !== 1) say("row without heading", row);
  }
  let level = 0;
  for (const head of all("h1, h2, h3, h4, h5, h6")) {
    const own = Number(head.tagName[1]);
    if (own > level + 1) say("heading skips a level", head);
    level = own;
  }
  const ids = all("[id]").map((element) => element.id);
  for (const id of new Set(ids.filter((id, place) => ids.indexOf(id) !== place))) found.push(`id twice: ${id}`);
  for (const link of all("a[href^='#']")) if (!document.getElementById(link.hash.slice(1))) say("link to nowhere", link);
  for (const element of all("[tabindex]")) if (element.tabIndex > 0) say("positive tabindex", element);
  for (const element of all("[role=group], [role=search], section")) if (!element.getAttribute("aria-label") && !element.getAttribute("aria-labelledby")) say("region without name", element);
  for (const element of all(".over")) if (element.tabIndex !== 0) say("scrolls but not by keyboard", element);
  return found;
}
