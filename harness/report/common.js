// Shared by the page's scripts. All text goes into the page through textContent: model output is shown, never interpreted.
"use strict";
const at = (id) => document.getElementById(id);
function make(tag, text, name, parent) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  if (name) element.className = name;
  if (parent) parent.append(element);
  return element;
}
function choices(select, entries) {
  for (const [value, label] of entries) make("option", label, "", select).value = value;
}
// What `harness.report.text.packed` packed into the script element `id`; unpacked when first asked for.
const unpacked = new Map();
function unpack(id) {
  if (!unpacked.has(id)) unpacked.set(id, (async () => {
    const bytes = Uint8Array.from(atob(JSON.parse(at(id).textContent).data), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  })());
  return unpacked.get(id);
}
// A list in pages: `prefix` names its elements (-list, -pager, -back, -on, -place, -size). Returns a function that shows other entries.
function paged(prefix, show) {
  const list = at(prefix + "-list"), place = at(prefix + "-place"), back = at(prefix + "-back"), on = at(prefix + "-on"), size = at(prefix + "-size");
  let entries = [], page = 0;
  function draw() {
    const step = Number(size.value), pages = Math.max(1, Math.ceil(entries.length / step));
    page = Math.min(Math.max(page, 0), pages - 1);
    list.replaceChildren(...entries.slice(page * step, (page + 1) * step).map(show));
    place.textContent = `Page ${page + 1} of ${pages}`;
    back.disabled = page === 0;
    on.disabled = page >= pages - 1;
    watchOverflow(list);
  }
  function turn(step) {
    page += step;
    draw();
    list.focus({ preventScroll: true });
    list.scrollIntoView({ block: "start" });
  }
  back.addEventListener("click", () => turn(-1));
  on.addEventListener("click", () => turn(1));
  size.addEventListener("change", () => { page = 0; draw(); });
  at(prefix + "-pager").hidden = false;
  return (found) => { entries = found; page = 0; draw(); };
}
// `text` in `parent`, the words that are not in `before` (in this order) marked; texts too long to compare are shown plain.
function marked(text, before, parent) {
  const words = text.split(/(\s+)/), old = before.split(/(\s+)/);
  let start = 0, end = 0;
  while (start < Math.min(words.length, old.length) && words[start] === old[start]) start++;
  while (end < Math.min(words.length, old.length) - start && words[words.length - 1 - end] === old[old.length - 1 - end]) end++;
  const mine = words.slice(start, words.length - end), theirs = old.slice(start, old.length - end);
  if (mine.length * theirs.length > 250000) { parent.append(text); return; }
  const longest = Array.from({ length: mine.length + 1 }, () => new Uint16Array(theirs.length + 1));
  for (let i = mine.length - 1; i >= 0; i--) for (let j = theirs.length - 1; j >= 0; j--)
    longest[i][j] = mine[i] === theirs[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  parent.append(words.slice(0, start).join(""));
  for (let i = 0, j = 0; i < mine.length;) {
    if (j < theirs.length && mine[i] === theirs[j]) { parent.append(mine[i]); i++; j++; }
    else if (j < theirs.length && longest[i][j + 1] > longest[i + 1][j]) j++;
    else { if (mine[i].trim()) make("mark", mine[i], "", parent); else parent.append(mine[i]); i++; }
  }
  parent.append(words.slice(words.length - end, words.length).join(""));
}
// Boxes whose content is wider than they are can be reached and scrolled by keyboard, and say that they scroll.
function checkOverflow(box) {
  const over = box.scrollWidth > box.clientWidth + 1;
  box.classList.toggle("over", over);
  if (!over) { for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name); return; }
  const caption = box.querySelector("caption"), drawing = box.querySelector("svg");
  const named = caption ? caption.textContent.split(/[.:] /)[0] : drawing ? drawing.getAttribute("aria-label") : "";
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `Scrolls sideways: ${named}`);
}
const sizes = new ResizeObserver((found) => { for (const entry of found) checkOverflow(entry.target); });
function watchOverflow(root) {
  for (const box of root.querySelectorAll(".scroll, .chart")) sizes.observe(box);
}
watchOverflow(document);
for (const details of document.querySelectorAll("details"))
  details.addEventListener("toggle", () => { for (const box of details.querySelectorAll(".scroll, .chart")) checkOverflow(box); });
// A link to something in a closed part opens it; printing opens everything.
function reveal() {
  const target = location.hash.length > 1 ? at(decodeURIComponent(location.hash.slice(1))) : null;
  for (let parent = target; parent; parent = parent.parentElement) if (parent.tagName === "DETAILS") parent.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", reveal);
if (location.hash) reveal();
let opened = [];
addEventListener("beforeprint", () => { opened = [...document.querySelectorAll("main details:not([open])")]; for (const details of opened) details.open = true; });
addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
