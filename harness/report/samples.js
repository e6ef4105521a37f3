// The sample browser: every answer to an item, clean and perturbed side by side, of all methods or of two whose scores are subtracted.
(() => {
  if (!at("sample-data")) return;
  const tally = at("sample-count");
  const names = ["task", "perturbation", "seed", "first", "second", "answers", "order", "text"];
  const controls = Object.fromEntries(names.map((name) => [name, at("filter-" + name)]));
  let data, show;

  // An item: [task, name, {perturbation: [prompt, target, answers]}]; an answer: [method, seed, output, status, [[metric, value] …]].
  function answer(item, perturbation, method, seed) {
    if (!item.index) {
      item.index = new Map();
      for (const [version, [, , answers]] of Object.entries(item[2])) for (const one of answers) item.index.set(`${version}/${one[0]}/${one[1]}`, one);
    }
    return item.index.get(`${perturbation}/${method}/${seed}`);
  }
  const valueOf = (found) => (found && found[4].length ? found[4][0][1] : null);
  const value = (item, perturbation, method, seed) => valueOf(answer(item, perturbation, method, seed));
  const mean = (values) => (values.length ? values.reduce((sum, one) => sum + one, 0) / values.length : null);
  const chosen = () => Object.fromEntries(names.map((name) => [name, name === "text" ? controls.text.value.trim().toLowerCase() : controls[name].value]));
  const methods = (form) => (form.first === "all" ? data.methods.map((_, index) => index) : [Number(form.first), ...(form.second === "none" ? [] : [Number(form.second)])]);
  const paired = (form) => form.first !== "all" && form.second !== "none" && form.first !== form.second;
  const signed = (number) => (number > 0 ? "+" : number < 0 ? "\u2212" : "") + Math.abs(number).toFixed(2).replace(/\.?0+$/, "");

  // First less second on the clean item: with this seed, and the mean over the seeds that both have.
  function difference(item, form) {
    const of = (seed) => {
      const [a, b] = [value(item, 0, Number(form.first), seed), value(item, 0, Number(form.second), seed)];
      return a === null || b === null ? null : a - b;
    };
    return { here: of(Number(form.seed)), mean: mean(data.seeds.map((_, seed) => of(seed)).filter((one) => one !== null)) };
  }
  // A value of 1 counts as right, below as wrong, none as neither.
  function fits(item, form) {
    const seed = Number(form.seed), all = methods(form).map((method) => value(item, 0, method, seed)), known = all.filter((one) => one !== null);
    switch (form.answers) {
      case "differ": return new Set(known).size > 1;
      case "right": return known.length > 0 && known.every((one) => one >= 1);
      case "wrong": return known.length > 0 && known.every((one) => one < 1);
      case "unscored": return all.some((one, place) => one === null && answer(item, 0, methods(form)[place], seed));
      case "moved": return methods(form).some((method) => {
        const after = answer(item, Number(form.perturbation), method, seed);
        return after && valueOf(after) !== value(item, 0, method, seed);
      });
      case "first": return paired(form) && difference(item, form).here > 0;
      case "second": return paired(form) && difference(item, form).here < 0;
      default: return true;
    }
  }
  function holds(item, words, seed) {
    if (!words || item[1].toLowerCase().includes(words)) return true;
    return Object.values(item[2]).some(([prompt, target, answers]) =>
      [prompt, target, ...answers.filter((one) => one[1] === seed).map((one) => one[2])].some((text) => data.texts[text].toLowerCase().includes(words)));
  }
  function mark(found, parent) {
    const score = valueOf(found), status = data.statuses[found[3]];
    const kind = score === null ? "none" : score >= 1 ? "right" : "wrong";
    make("span", score === null ? "∅ " + status : score >= 1 ? "✓ right" : score > 0 ? "◐ partly" : "✗ wrong", "mark " + kind, parent);
    make("small", " " + found[4].map(([metric, one]) => `${data.metrics[metric]} ${one === null ? "–" : one}`).join(", "), "", parent);
  }
  function seedsLine(item, version, method, parent) {
    const found = data.seeds.map((seed, place) => [seed, answer(item, version, method, place)]).filter(([, one]) => one);
    if (found.length < 2) return;
    const right = found.filter(([, one]) => valueOf(one) >= 1 && valueOf(one) !== null).length, scored = found.filter(([, one]) => valueOf(one) !== null).length;
    make("small", `right with ${right} of ${scored} scored seeds`, "over-seeds", parent);
  }
  function draw(item) {
    const form = chosen(), seed = Number(form.seed), article = make("article", null, "sample");
    make("h3", `${data.tasks[item[0]]} · ${item[1]}`, "", article);
    if (paired(form)) {
      const { here, mean: overall } = difference(item, form), [a, b] = [data.methods[form.first], data.methods[form.second]];
      make("p", here === null ? `${a} − ${b}: one of them has no score here` : `${a} − ${b}: ${signed(here)} with this seed, ${signed(overall)} mean over seeds`, "difference", article);
    }
    const versions = [0, Number(form.perturbation)].filter((name, index, all) => all.indexOf(name) === index && item[2][name]);
    const prompts = make("div", null, "versions", article);
    for (const name of versions) {
      const column = make("div", null, "", prompts), [prompt, target] = item[2][name];
      make("h4", "Prompt, " + data.perturbations[name], "", column);
      const block = make("pre", null, "prompt", column);
      block.tabIndex = 0;
      if (name === 0) block.textContent = data.texts[prompt]; else marked(data.texts[prompt], data.texts[item[2][0] ? item[2][0][0] : prompt], block);
      make("h4", "Target", "", column);
      make("pre", data.texts[target], "", column);
    }
    const table = make("table", null, "", make("div", null, "scroll", article));
    make("caption", `Answers, seed ${data.seeds[seed]}`, "", table);
    const head = make("tr", null, "", make("thead", null, "", table));
    for (const title of ["Method", ...versions.map((name) => data.perturbations[name])]) make("th", title, "", head).scope = "col";
    const body = make("tbody", null, "", table);
    for (const method of methods(form)) {
      const cells = versions.map((name) => answer(item, name, method, seed));
      if (!cells.some(Boolean)) continue;
      const row = make("tr", null, "", body);
      make("th", data.methods[method], "", row).scope = "row";
      cells.forEach((found, place) => {
        const cell = make("td", null, "answer-cell", row);
        if (!found) { make("span", "no answer recorded", "mark none", cell); return; }
        mark(found, cell);
        seedsLine(item, versions[place], method, cell);
        make("pre", data.texts[found[2]], "", cell);
      });
    }
    return article;
  }
  function summary(found, form) {
    const text = `${found.length} of ${data.items.length} items match.`;
    if (!paired(form)) return text;
    const known = found.map((item) => difference(item, form).here).filter((one) => one !== null), count = (test) => known.filter(test).length;
    if (!known.length) return text;
    return `${text} Seed ${data.seeds[form.seed]}, clean: ${data.methods[form.first]} better on ${count((one) => one > 0)}, ${data.methods[form.second]} on ${count((one) => one < 0)}, ` +
      `equal on ${count((one) => one === 0)}; mean difference ${signed(mean(known))} over n = ${known.length}. One seed and the items chosen here: the verdicts say what may be concluded.`;
  }
  function filter() {
    const form = chosen();
    const found = data.items.filter((item) => (form.task === "all" || item[0] === Number(form.task)) && (form.perturbation === "0" || item[2][form.perturbation])
      && fits(item, form) && holds(item, form.text, Number(form.seed)));
    controls.second.disabled = form.first === "all";
    for (const one of controls.answers.options) one.disabled = (one.value === "first" || one.value === "second") && !paired(form);
    controls.order.disabled = !paired(form);
    if (paired(form) && form.order !== "file") {
      const sign = form.order === "second" ? 1 : -1, by = new Map(found.map((item) => [item, difference(item, form).mean ?? 0]));
      found.sort((a, b) => sign * (by.get(a) - by.get(b)));
    }
    tally.textContent = summary(found, form);
    show(found);
  }
  function start() {
    choices(controls.task, [["all", "all tasks"], ...data.tasks.map((name, index) => [index, name])]);
    choices(controls.perturbation, data.perturbations.map((name, index) => [index, index ? name : "nothing (clean only)"]));
    choices(controls.seed, data.seeds.map((seed, index) => [index, seed]));
    choices(controls.first, [["all", "all methods"], ...data.methods.map((name, index) => [index, name])]);
    choices(controls.second, [["none", "nothing"], ...data.methods.map((name, index) => [index, name])]);
    choices(controls.answers, [["all", "all items"], ["differ", "methods disagree"], ["right", "all right"], ["wrong", "all wrong"],
      ["moved", "changed by the perturbation"], ["unscored", "some unscored"], ["first", "first better than second"], ["second", "second better than first"]]);
    choices(controls.order, [["file", "as scored"], ["first", "first ahead most"], ["second", "second ahead most"]]);
    for (const control of Object.values(controls)) control.addEventListener(control === controls.text ? "input" : "change", filter);
    at("filters").addEventListener("submit", (event) => event.preventDefault());
    at("filters").hidden = false;
    if (data.perturbations.length > 1) controls.perturbation.value = 1;
    show = paged("sample", draw);
    filter();
  }
  unpack("sample-data").then((found) => { data = found; start(); },
    (error) => { tally.textContent = `The samples could not be unpacked here (${error}); a browser from 2023 or later can.`; });
})();
