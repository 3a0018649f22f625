// Tables whose rows stay in place while their figures change, so that focus, selection and scrolling stay as well.
//
// Names come from peers and may be hostile: all text is set as textContent.

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Makes `parent` have `number` children, by adding what `make` returns or removing the last ones.
export function resize(parent, number, make) {
  while (parent.children.length > number) parent.lastElementChild.remove();
  while (parent.children.length < number) parent.append(make());
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A table that is sorted by the column whose head was pressed last.
//
// A column: {head, value: row => what is compared, text: row => what is shown, title: row => the exact figure, number}
export class SortableTable {
  constructor(table, columns, sortedBy) {
    this.columns = columns;
    this.body = table.tBodies[0];
    this.rows = [];
    this.by = sortedBy;
    this.isDescending = true;
    const heads = columns.map((column, index) => {
      const button = element("button", { type: "button" }, column.head);
      button.addEventListener("click", () => this.sortBy(index));
      const kind = column.number ? { class: "number" } : {};
      return element("th", { scope: "col", role: "columnheader", ...kind }, button);
    });
    this.heads = heads;
    table.tHead.rows[0].append(...heads);
  }

  sortBy(index) {
    // Figures begin with the largest, names with the first letter.
    this.isDescending = index === this.by ? !this.isDescending : Boolean(this.columns[index].number);
    this.by = index;
    this.draw();
  }

  show(rows) {
    this.rows = rows;
    this.draw();
  }

  draw() {
    const { value } = this.columns[this.by];
    const sign = this.isDescending ? -1 : 1;
    // What is not known comes last, either way.
    const compare = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (a < b ? -1 : a > b ? 1 : 0);
    };
    const sorted = [...this.rows].sort(compare);
    this.heads.forEach((head, index) => {
      if (index !== this.by) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.isDescending ? "descending" : "ascending");
    });
    resize(this.body, sorted.length, () => element("tr", { role: "row" }, ...this.columns.map(cell)));
    sorted.forEach((row, at) => {
      const cells = this.body.children[at].children;
      this.columns.forEach((column, index) => {
        setText(cells[index], column.text(row));
        const title = column.title?.(row);
        if (title) cells[index].title = title;
        else cells[index].removeAttribute("title");
      });
    });
  }
}

function cell(column) {
  const kind = [column.number ? "number" : "", column.kind ?? ""].join(" ").trim();
  return element("td", { role: "cell", "data-label": column.head, ...(kind ? { class: kind } : {}) });
}
