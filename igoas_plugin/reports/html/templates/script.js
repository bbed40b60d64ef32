"use strict";

// Makes tables sortable and filterable; without this script they can still be read.
// The status line of a table tells its order and the number of rows; screen readers read it aloud.

const TEXT = new Intl.Collator("en", { numeric: true });
const WAIT = 200; // milliseconds between the last key and the filter, so that not every letter is announced

function cellText(row, column) {
  return row.cells[column].textContent.trim();
}

function numberIn(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim().replaceAll(",", "");
  return text === "" ? NaN : Number(text);
}

// Rows without a value come last in either direction.
function compare(kind, column, direction) {
  return (one, other) => {
    if (kind === "number") {
      const [a, b] = [numberIn(one.cells[column]), numberIn(other.cells[column])];
      if (!Number.isNaN(a) && !Number.isNaN(b)) return direction * (a - b);
      if (!Number.isNaN(a) || !Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    }
    const [a, b] = [cellText(one, column), cellText(other, column)];
    if (!a || !b) return !a - !b;
    return direction * TEXT.compare(a, b);
  };
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare(head.dataset.kind, column, ascending ? 1 : -1)));
      announce(table);
    });
  });
}

const TESTS = {
  contains: (cell, wanted) => cell.textContent.toLowerCase().includes(wanted.toLowerCase()),
  is: (cell, wanted) => cell.textContent.trim() === wanted,
  from: (cell, wanted) => numberIn(cell) >= Number(wanted),
  to: (cell, wanted) => numberIn(cell) <= Number(wanted),
};

function makeFilter(tools) {
  const table = document.getElementById(tools.dataset.table);
  const heads = [...table.tHead.rows[0].cells];
  const fields = [...tools.querySelectorAll("input, select")].map((field) => ({
    field,
    column: heads.findIndex((head) => head.dataset.key === field.dataset.key),
    test: TESTS[field.dataset.test],
  }));
  const section = tools.closest("section");

  const apply = () => {
    const asked = fields.filter(({ field }) => field.value.trim() !== "");
    for (const row of table.tBodies[0].rows) {
      row.hidden = !asked.every(({ field, column, test }) => test(row.cells[column], field.value.trim()));
    }
    for (const group of section.querySelectorAll(".group")) {
      const articles = [...group.querySelectorAll("article")];
      for (const article of articles) article.hidden = document.getElementById(article.dataset.row).hidden;
      group.querySelector(".none").hidden = articles.some((article) => !article.hidden);
    }
    announce(table);
  };

  let waiting;
  tools.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, WAIT);
  });
  tools.querySelector("button").addEventListener("click", () => {
    fields.forEach(({ field }) => { field.value = ""; });
    apply();
  });
  tools.hidden = false;
}

function announce(table) {
  const status = document.getElementById(`${table.id}-count`);
  if (!status) return;
  const rows = [...table.tBodies[0].rows];
  const left = rows.filter((row) => !row.hidden).length;
  const some = left < rows.length ? `${left.toLocaleString("en")} of ` : "";
  const head = table.querySelector("[aria-sort]");
  const order = head ? `, by ${head.textContent}, ${head.getAttribute("aria-sort")}` : "";
  status.textContent = `${some}${rows.length.toLocaleString("en")} ${status.dataset.what}${order}`;
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll(".filter").forEach(makeFilter);

// A link to a query opens its pictures.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target?.matches("article") && target.querySelector("details");
  if (folded) folded.open = true;
}

addEventListener("hashchange", openTarget);
openTarget();
