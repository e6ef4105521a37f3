// Tables: sorting by column, filtering rows, and each table as CSV, Markdown or LaTeX (written by the same code as the files beside the report).
(() => {
  const FILTER_FROM = 9;
  const KINDS = { csv: ["CSV", "text/csv"], md: ["Markdown", "text/markdown"], tex: ["LaTeX", "application/x-tex"] };

  // What a cell is sorted by; null where it is missing, whatever number the note behind the dash may hold.
  function key(cell, numeric) {
    if (numeric && cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const text = cell.textContent.trim();
    if (text.startsWith("–")) return null;
    if (!numeric) return text.toLowerCase();
    const plain = Number.parseFloat(text.replace(/[\u202f\u2009\u00a0 ]/g, "").replace("\u2212", "-").replace(/^[^\d+.-]+/, ""));
    return Number.isNaN(plain) ? null : plain;
  }
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], original = [...body.rows];
    if (original.length < 2 || original.some((row) => row.cells.length !== heads.length)) return;
    heads.forEach((head, column) => {
      if (head.tagName !== "TH" || !head.textContent.trim()) return;
      const numeric = head.classList.contains("n") && original.some((row) => key(row.cells[column], true) !== null);
      const button = make("button", null, "sort");
      button.type = "button";
      button.append(...head.childNodes);
      make("span", "", "arrow", button).setAttribute("aria-hidden", "true");
      head.append(button);
      button.addEventListener("click", () => {
        const orders = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
        const order = orders[(orders.indexOf(head.getAttribute("aria-sort") || "none") + 1) % 3];
        for (const other of heads) other.removeAttribute("aria-sort");
        if (order !== "none") head.setAttribute("aria-sort", order);
        const sign = order === "descending" ? -1 : 1;
        const rows = order === "none" ? original : original.map((row) => [row, key(row.cells[column], numeric)]).sort(([, a], [, b]) => {
          if (a === null || b === null) return Number(a === null) - Number(b === null);
          return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
        }).map(([row]) => row);
        body.append(...rows);
      });
    });
  }
  function filterable(table, tools, about) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < FILTER_FROM) return;
    const label = make("label", null, "rows", tools), words = make("span", "Filter rows", "", label);
    make("span", ` of ${about}`, "hidden", words);
    const input = make("input", null, "", label);
    input.type = "search";
    input.autocomplete = "off";
    const tally = make("span", "", "tally", tools);
    tally.setAttribute("role", "status");
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
        shown += Number(!row.hidden);
      }
      tally.textContent = wanted.length ? `${shown} of ${rows.length} rows` : "";
    });
  }
  async function copy(text) {
    try { await navigator.clipboard.writeText(text); return true; } catch {
      const area = make("textarea", text, "hidden", document.body);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }
  function download(text, name, type) {
    const link = make("a"), url = URL.createObjectURL(new Blob([text], { type: type + ";charset=utf-8" }));
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
  function exported(name, tools, about) {
    const box = make("details", null, "export", tools), summary = make("summary", "Export", "", box);
    make("span", ` ${about}`, "hidden", summary);
    const row = make("div", null, "export-row", box), state = make("span", "", "tally", row);
    state.setAttribute("role", "status");
    for (const [ending, [label, type]] of Object.entries(KINDS)) {
      const group = make("span", null, "export-kind", row);
      make("span", label, "", group);
      for (const [verb, act] of [["Copy", async (text) => ((await copy(text)) ? `${label} copied.` : "The browser did not allow copying.")],
        ["Download", (text) => { download(text, `${document.body.dataset.study}-${name}.${ending}`, type); return `${label} downloaded.`; }]]) {
        const button = make("button", verb, "", group);
        button.type = "button";
        button.setAttribute("aria-label", `${verb} ${label}`);
        button.addEventListener("click", async () => {
          try { state.textContent = await act((await unpack("table-data"))[name][ending]); } catch (error) { state.textContent = `Not possible here: ${error}`; }
        });
      }
    }
    row.append(state);
  }
  for (const table of document.querySelectorAll("main .scroll > table")) {
    if (!table.tHead || !table.tBodies.length || table.closest("article")) continue;
    const about = (table.caption ? table.caption.textContent : "table").split(/[.:;] /)[0];
    const tools = make("div", null, "tools");
    filterable(table, tools, about);
    if (table.dataset.name && at("table-data")) exported(table.dataset.name, tools, about);
    if (tools.childNodes.length) table.parentElement.after(tools);
    sortable(table);
  }
})();
