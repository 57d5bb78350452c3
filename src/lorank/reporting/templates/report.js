"use strict";
(() => {
  const said = document.getElementById("said");

  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.sort ?? cell.textContent.trim().replaceAll("\u2212", "-");
    const number = text === "" || text === "None" ? NaN : Number(text);
    return { number, text };
  };

  const compare = (a, b) => {
    const numbers = !Number.isNaN(a.number) + !Number.isNaN(b.number);
    if (numbers === 2) return a.number - b.number;
    if (numbers === 1) return Number.isNaN(a.number) ? -1 : 1;
    return a.text.localeCompare(b.text);
  };

  const sort = (table, header) => {
    const down = header.getAttribute("aria-sort") !== "descending";
    const column = header.cellIndex;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, key: value(row, column) }));
    rows.sort((a, b) => (down ? -1 : 1) * compare(a.key, b.key));
    body.append(...rows.map((entry) => entry.row));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    said.textContent = `Sorted by ${header.textContent.trim()}, ${down ? "descending" : "ascending"}`;
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].querySelectorAll("th")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, header));
    }
  }

  const copied = (source) => {
    getSelection().selectAllChildren(source);
    const done = document.execCommand("copy");
    getSelection().removeAllRanges();
    return done;
  };

  const copy = async (source) => {
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      return true;
    } catch {
      return copied(source);
    }
  };

  for (const button of document.querySelectorAll("button[data-copies]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copy(document.getElementById(button.dataset.copies));
      button.textContent = done ? "Copied" : "Press Ctrl+C";
      said.textContent = button.textContent;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
})();
