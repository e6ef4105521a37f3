// The sample browser. All text goes into the page through textContent: model output is shown, never interpreted.
"use strict";
(() => {
  const source = document.getElementById("sample-data");
  if (!source) return;
  const PAGE = 5;
  const at = (id) => document.getElementById(id);
  const list = at("sample-list"), place = at("page-place"), back = at("page-back"), on = at("page-on"), tally = at("sample-count");
  const controls = { task: at("filter-task"), perturbation: at("filter-perturbation"), seed: at("filter-seed"), answers: at("filter-answers"), text: at("filter-text") };
  let data, found = [], page = 0;

  async function unpack(packed) {
    const bytes = Uint8Array.from(atob(packed.data), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }
  function make(tag, text, name, parent) {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    if (name) element.className = name;
    if (parent) parent.append(element);
    return element;
  }
  function options(select, entries) {
    for (const [value, label] of entries) make("option", label, "", select).value = value;
  }
  const answersOf = (item, perturbation, seed) => ((item[2][perturbation] || [0, 0, []])[2]).filter((answer) => answer[1] === seed);
  const valueOf = (answer) => (answer && answer[4].length ? answer[4][0][1] : null);

  // Whether an item's answers (of one seed) fit the chosen kind; a value of 1 counts as right, below as wrong, none as neither.
  function fits(item, kind, seed, perturbation) {
    if (kind === "all") return true;
    const values = answersOf(item, 0, seed).map(valueOf).filter((value) => value !== null);
    if (kind === "right") return values.length > 0 && values.every((value) => value >= 1);
    if (kind === "wrong") return values.length > 0 && values.every((value) => value < 1);
    if (kind === "differ") return new Set(values).size > 1;
    if (kind === "unscored") return answersOf(item, 0, seed).some((answer) => valueOf(answer) === null);
    if (kind === "moved") {
      const after = new Map(answersOf(item, perturbation, seed).map((answer) => [answer[0], valueOf(answer)]));
      return answersOf(item, 0, seed).some((answer) => after.has(answer[0]) && after.get(answer[0]) !== valueOf(answer));
    }
    const [state, method] = kind.split(":");
    const value = valueOf(answersOf(item, 0, seed).find((answer) => answer[0] === Number(method)));
    return value !== null && (state === "only" ? value >= 1 : value < 1);
  }
  function holds(item, words, seed) {
    if (!words) return true;
    if (item[1].toLowerCase().includes(words)) return true;
    return Object.values(item[2]).some(([prompt, target, answers]) =>
      [prompt, target, ...answers.filter((answer) => answer[1] === seed).map((answer) => answer[2])].some((text) => data.texts[text].toLowerCase().includes(words)));
  }
  function mark(answer, parent) {
    const status = data.statuses[answer[3]], value = valueOf(answer);
    const scores = answer[4].map(([metric, score]) => `${data.metrics[metric]} ${score === null ? "–" : score}`).join(", ");
    const kind = value === null ? "none" : value >= 1 ? "right" : "wrong";
    const sign = value === null ? "∅ " + status : value >= 1 ? "✓ right" : value > 0 ? "◐ partly" : "✗ wrong";
    make("span", sign, "mark " + kind, parent);
    make("small", " " + scores, "", parent);
  }
  function show(item, seed, perturbation) {
    const article = make("article", null, "sample");
    make("h3", `${data.tasks[item[0]]} · ${item[1]}`, "", article);
    const versions = [0, perturbation].filter((name, index, all) => all.indexOf(name) === index && item[2][name]);
    const prompts = make("div", null, "versions", article);
    for (const name of versions) {
      const column = make("div", null, "", prompts), [prompt, target] = item[2][name];
      make("h4", "Prompt, " + data.perturbations[name], "", column);
      const block = make("pre", data.texts[prompt], "prompt", column);
      block.tabIndex = 0;
      make("h4", "Target", "", column);
      make("pre", data.texts[target], "", column);
    }
    const table = make("table", null, "", make("div", null, "scroll", article));
    make("caption", `Answers, seed ${data.seeds[seed]}`, "", table);
    const head = make("tr", null, "", make("thead", null, "", table));
    for (const title of ["Method", ...versions.map((name) => data.perturbations[name])]) make("th", title, "", head).scope = "col";
    const body = make("tbody", null, "", table);
    data.methods.forEach((method, index) => {
      const cells = versions.map((name) => answersOf(item, name, seed).find((answer) => answer[0] === index));
      if (!cells.some(Boolean)) return;
      const row = make("tr", null, "", body);
      make("th", method, "", row).scope = "row";
      for (const answer of cells) {
        const cell = make("td", null, "answer-cell", row);
        if (!answer) { make("span", "no answer recorded", "mark none", cell); continue; }
        mark(answer, cell);
        make("pre", data.texts[answer[2]], "", cell);
      }
    });
    return article;
  }
  function draw() {
    const seed = Number(controls.seed.value), perturbation = Number(controls.perturbation.value), pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    list.replaceChildren(...found.slice(page * PAGE, page * PAGE + PAGE).map((item) => show(item, seed, perturbation)));
    place.textContent = `Page ${page + 1} of ${pages}`;
    back.disabled = page === 0;
    on.disabled = page >= pages - 1;
    tally.textContent = `${found.length} of ${data.items.length} items match.`;
  }
  function filter() {
    const task = controls.task.value, seed = Number(controls.seed.value), perturbation = Number(controls.perturbation.value);
    const words = controls.text.value.trim().toLowerCase();
    found = data.items.filter((item) => (task === "all" || item[0] === Number(task)) && (perturbation === 0 || item[2][perturbation])
      && fits(item, controls.answers.value, seed, perturbation) && holds(item, words, seed));
    page = 0;
    draw();
  }
  function turn(step) {
    page += step;
    draw();
    at("samples").scrollIntoView({ block: "start" });
  }
  function start() {
    options(controls.task, [["all", "all tasks"], ...data.tasks.map((name, index) => [index, name])]);
    options(controls.perturbation, data.perturbations.map((name, index) => [index, index ? name : "nothing (clean only)"]));
    options(controls.seed, data.seeds.map((seed, index) => [index, seed]));
    options(controls.answers, [["all", "all items"], ["differ", "methods disagree"], ["right", "all right"], ["wrong", "all wrong"], ["moved", "changed by the perturbation"],
      ["unscored", "some unscored"], ...data.methods.flatMap((name, index) => [["only:" + index, name + " right"], ["not:" + index, name + " wrong"]])]);
    for (const control of Object.values(controls)) control.addEventListener(control === controls.text ? "input" : "change", filter);
    at("filters").addEventListener("submit", (event) => event.preventDefault());
    back.addEventListener("click", () => turn(-1));
    on.addEventListener("click", () => turn(1));
    at("filters").hidden = at("pager").hidden = false;
    if (data.perturbations.length > 1) controls.perturbation.value = 1;
    filter();
  }
  unpack(JSON.parse(source.textContent)).then((unpacked) => { data = unpacked; start(); },
    (error) => { tally.textContent = `The samples could not be unpacked here (${error}); a browser from 2023 or later can.`; });
})();
