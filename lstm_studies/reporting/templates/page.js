"use strict";
// Tables sort by a click on a column's head; numbers by the value in data-sort.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[column];
        const number = parseFloat(cell.dataset.sort);
        return "sort" in cell.dataset ? (Number.isNaN(number) ? Infinity : number) : cell.textContent.trim();
      };
      const order = (a, b) => (typeof a === "number" ? a - b || 0 : a.localeCompare(b, "en", { numeric: true }));
      const rows = [...table.tBodies[0].rows].sort((a, b) => order(value(a), value(b)) * (up ? 1 : -1));
      table.tBodies[0].append(...rows);
    });
  });
}
// Figures open large.
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll(".zoom")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img");
    Object.assign(dialog.querySelector("img"), { src: image.src, alt: image.alt });
    dialog.showModal();
  });
}
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
// The contents show where the reader is.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const show = () => {
  const passed = [...document.querySelectorAll(".chapter, article")].filter((part) => part.getBoundingClientRect().top < 120);
  document.querySelectorAll("nav .here").forEach((old) => old.classList.remove("here"));
  for (const part of passed.slice(-1)) {
    const bar = document.querySelector("nav"), chapter = links.get(part.closest(".chapter").id);
    if (chapter && bar.scrollWidth > bar.clientWidth) bar.scrollLeft = chapter.offsetLeft - bar.clientWidth / 3;
    for (let item = links.get(part.id)?.parentElement; item; item = item.parentElement.closest("nav li")) {
      item.classList.add("here");
      item.querySelector("a").classList.add("here");
    }
  }
};
document.addEventListener("scroll", show, { passive: true });
show();
