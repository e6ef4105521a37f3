// The instructions that methods made: each with its lineage, what every step changed, why it was kept or not.
(() => {
  if (!at("instruction-data")) return;
  const tally = at("instruction-count");
  const names = ["trial", "operation", "state", "words"];
  const controls = Object.fromEntries(names.map((name) => [name, at("made-" + name)]));
  let data, show;

  // A row: [trial, id, operation, kept, reason, family, steps [[operation, text] …], response, facts].
  function draw(row) {
    const [trial, id, operation, kept, reason, family, steps, response, facts] = row, article = make("article", null, "sample");
    const head = make("h3", null, "", article);
    make("span", kept ? "kept" : "rejected", "flag " + (kept ? "good" : "bad"), head);
    head.append(` ${steps.map(([name]) => data.texts[name]).join(" → ") || data.texts[operation]}`);
    if (!kept) make("p", `Rejected: ${data.texts[reason]}`, "", article);
    const list = make("ol", null, "lineage", article);
    steps.forEach(([name, text], place) => {
      const step = make("li", null, "", list);
      make("b", data.texts[name], "", step);
      const block = make("pre", null, "", step);
      if (place === 0) block.textContent = data.texts[text]; else marked(data.texts[text], data.texts[steps[place - 1][1]], block);
    });
    if (response !== null) { make("h4", "Response", "", article); make("pre", data.texts[response], "", article); }
    make("p", `${data.trials[trial]} · ${id}${family ? ` · family ${data.texts[family]}` : ""} · ${data.texts[facts]}`, "measure", article);
    return article;
  }
  function filter() {
    const trial = controls.trial.value, operation = controls.operation.value, state = controls.state.value, words = controls.words.value.trim().toLowerCase();
    const found = data.rows.filter((row) => (trial === "all" || row[0] === Number(trial)) && (operation === "all" || row[2] === Number(operation))
      && (state === "all" || (state === "kept" ? row[3] : !row[3] && (state === "rejected" || row[4] === Number(state))))
      && (!words || row[6].some(([, text]) => data.texts[text].toLowerCase().includes(words)) || (row[7] !== null && data.texts[row[7]].toLowerCase().includes(words))));
    tally.textContent = `${found.length} of ${data.rows.length} instructions match.`;
    show(found);
  }
  function start() {
    const distinct = (place, of) => [...new Set(data.rows.filter(of).map((row) => row[place]))].map((text) => [text, data.texts[text]]);
    choices(controls.trial, [["all", "all trials"], ...data.trials.map((name, index) => [index, name])]);
    choices(controls.operation, [["all", "all operations"], ...distinct(2, () => true)]);
    choices(controls.state, [["all", "kept and rejected"], ["kept", "kept"], ["rejected", "rejected"], ...distinct(4, (row) => !row[3]).map(([value, name]) => [value, `rejected: ${name}`])]);
    for (const control of Object.values(controls)) control.addEventListener(control === controls.words ? "input" : "change", filter);
    at("made").addEventListener("submit", (event) => event.preventDefault());
    at("made").hidden = false;
    show = paged("instruction", draw);
    filter();
  }
  unpack("instruction-data").then((found) => { data = found; start(); },
    (error) => { tally.textContent = `The instructions could not be unpacked here (${error}); a browser from 2023 or later can.`; });
})();
