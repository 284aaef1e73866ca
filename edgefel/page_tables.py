"""What tables of our pages do beyond being read: a click on a header sorts by it, missing values last."""

# JavaScript for the body of a function; rows are ordered by the data-order of their cells
SORT_TABLES = """\
  const value = (row, index, numeric) => {
    const order = row.cells[index].dataset.order;
    return order === undefined ? null : numeric ? Number(order) : order;
  };
  const sort = (table, index, header) => {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const numeric = header.classList.contains("n");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, index, numeric), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const way = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
      return down ? -way : way;
    });
    body.append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((header, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, index, header));
      header.append(button);
    });
  }
"""
