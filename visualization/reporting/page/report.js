
"use strict";

/* The order of rows, as indices, by their keys: numbers where `numeric`, otherwise text in which 9 comes before 10.
   Rows without a key come last in either direction, and rows with equal keys keep their order. */
function sortedOrder(keys, numeric, descending) {
  const compare = numeric ? (one, other) => Number(one) - Number(other) : new Intl.Collator("en", { numeric: true }).compare;
  const sign = descending ? -1 : 1;
  return keys.map((_, index) => index).sort((first, second) => {
    const one = keys[first];
    const other = keys[second];
    if (one === "" || other === "") return (one === "") - (other === "");
    return sign * compare(one, other);
  });
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("[aria-sort]").forEach((sorted) => sorted.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keys = rows.map((row) => row.cells[heading.cellIndex].dataset.key);
      const order = sortedOrder(keys, heading.dataset.numeric === "true", descending);
      body.append(...order.map((index) => rows[index]));
    });
  }
}

function makeCopying(button) {
  const command = document.getElementById(button.dataset.copies);
  button.hidden = false;
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(command);
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected"; // the browser does not let a page write there: the reader copies
    }
  });
}

document.querySelectorAll(".sortable").forEach(makeSortable);
document.querySelectorAll("[data-copies]").forEach(makeCopying);
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
});
