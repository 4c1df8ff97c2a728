// Sorting, filtering and comparing maps. The page shows everything without this script; it reads nothing but the page.
"use strict";
(() => {
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };

  // --- sorting ---

  const valueOf = (row, column, kind) => {
    const text = row.cells[column]?.dataset.value ?? "";
    if (text === "") {
      return null;
    }
    return kind === "number" ? Number(text) : text;
  };

  const compare = (one, other) => {
    if (typeof one === "number") {
      return one - other;
    }
    return one.localeCompare(other, "en", { numeric: true });
  };

  // what has no value stays last in both directions
  const inOrder = (items, rowOf, column, kind, sign) =>
    items
      .map((item) => ({ item, value: valueOf(rowOf(item), column, kind) }))
      .sort((one, other) => {
        if (one.value === null || other.value === null) {
          return (one.value === null) - (other.value === null);
        }
        return sign * compare(one.value, other.value);
      })
      .map(({ item }) => item);

  const sortTable = (table, heading, column) => {
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const one of table.querySelectorAll("th[aria-sort]")) {
      one.setAttribute("aria-sort", "none");
    }
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const sign = ascending ? 1 : -1;
    const kind = heading.dataset.sort;
    const images = [...table.tBodies].filter((body) => body.classList.contains("image"));
    if (images.length > 0) {
      table.append(...inOrder(images, (body) => body.rows[0], column, kind, sign));
      return;
    }
    for (const body of table.tBodies) {
      body.append(...inOrder([...body.querySelectorAll("tr.line")], (row) => row, column, kind, sign));
    }
  };

  for (const heading of document.querySelectorAll("th[data-sort]")) {
    const button = make("button", { type: "button", class: "sort" });
    const name = heading.querySelector(".name") ?? heading.firstChild;
    name.replaceWith(button);
    button.append(name);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortTable(heading.closest("table"), heading, heading.cellIndex));
  }

  // --- comparing maps ---

  const slider = (label, value, onInput) => {
    const input = make("input", { type: "range", min: "0", max: "100", value: String(value) });
    input.addEventListener("input", onInput);
    return { input, label: make("label", {}, make("span", {}, label), input) };
  };

  const chooser = (label, figures, chosen, onInput) => {
    const select = make("select", {});
    for (const figure of figures) {
      select.append(make("option", { value: figure.dataset.place }, figure.dataset.explainer));
    }
    select.selectedIndex = chosen;
    select.addEventListener("change", onInput);
    return { select, label: make("label", {}, make("span", {}, label), select) };
  };

  const buildStage = (details) => {
    const figures = [...details.querySelectorAll("figure.mapped")];
    if (figures.length === 0) {
      return;
    }
    const one = make("div", { class: "map first" });
    const other = make("div", { class: "map second" });
    let held = false;
    const show = () => {
      const share = held ? 1 : Number(fade.input.value) / 100;
      const opacity = Number(strength.input.value) / 100;
      one.style.setProperty("--place", first.select.value);
      other.style.setProperty("--place", second.select.value);
      one.style.opacity = String(opacity * (1 - share));
      other.style.opacity = String(opacity * share);
      screen.setAttribute("aria-label", `Map of ${(share > 0.5 ? second : first).select.selectedOptions[0].text}`);
    };
    // the explainer in which the image is worst comes first, beside the one below it
    const worst = details.closest("tbody").dataset.first;
    const start = Math.max(0, figures.findIndex((figure) => figure.dataset.explainer === worst));
    const first = chooser("Map A", figures, start, show);
    const second = chooser("Map B", figures, (start + 1) % figures.length, show);
    const strength = slider("Opacity", 85, show);
    const fade = slider("From A to B", 0, show);
    const swap = make("button", { type: "button", class: "swap" }, "Swap A and B (key s)");
    const hold = make("button", { type: "button", class: "hold" }, "Hold to see B");
    const swapMaps = () => {
      const before = first.select.selectedIndex;
      first.select.selectedIndex = second.select.selectedIndex;
      second.select.selectedIndex = before;
      show();
    };
    const holding = (on) => () => {
      held = on;
      show();
    };
    swap.addEventListener("click", swapMaps);
    for (const event of ["pointerdown", "keydown"]) {
      hold.addEventListener(event, (pressed) => {
        if (pressed.key === undefined || pressed.key === " " || pressed.key === "Enter") {
          holding(true)();
        }
      });
    }
    for (const event of ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"]) {
      hold.addEventListener(event, holding(false));
    }
    const screen = make("div", { class: "tile under", role: "img" }, one, other);
    const buttons = make("div", { class: "buttons" }, swap, hold);
    const controls = make("div", { class: "controls" }, first.label, second.label, strength.label, fade.label, buttons);
    const stage = make("div", { class: "stage" }, screen, controls);
    stage.addEventListener("keydown", (pressed) => {
      if (pressed.key === "s" && pressed.target.tagName !== "SELECT") {
        swapMaps();
      }
    });
    details.querySelector("summary").after(stage);
    show();
  };

  const setUpImage = (body) => {
    const details = body.querySelector("details.maps");
    if (details === null) {
      return;
    }
    const [line] = body.rows;
    const name = line.querySelector("th");
    const button = make("button", { type: "button", class: "open", "aria-expanded": "false" });
    button.setAttribute("aria-label", details.querySelector("summary").textContent);
    name.prepend(button);
    line.classList.add("opens");
    const toggle = () => {
      details.open = !details.open;
      body.classList.toggle("opened", details.open);
      button.setAttribute("aria-expanded", String(details.open));
      if (details.open && details.querySelector(".stage") === null) {
        buildStage(details);
      }
    };
    line.addEventListener("click", (clicked) => {
      if (clicked.target === button || clicked.target.closest("button, a, select, input") === null) {
        toggle();
      }
    });
  };

  // --- filtering ---

  const setUpFilters = (box) => {
    const bar = box.querySelector(".filters-bar");
    const bodies = [...box.querySelectorAll("tbody.image")];
    const field = (name) => bar.querySelector(`[name="${name}"]`);
    const texts = new Map(
      bodies.map((body) => [body, `${body.rows[0].cells[2].textContent} ${body.rows[0].cells[3].textContent}`.toLowerCase()]),
    );
    const matches = (body) =>
      texts.get(body).includes(field("text").value.trim().toLowerCase()) &&
      (field("class").value === "" || body.dataset.class === field("class").value) &&
      ["wrong", "flipped", "missing"].every((name) => !field(name).checked || body.dataset[name] === "1");
    const apply = () => {
      let shown = 0;
      for (const body of bodies) {
        body.hidden = !matches(body);
        shown += body.hidden ? 0 : 1;
      }
      field("count").value = `${shown} of ${bodies.length} images`;
    };
    bar.addEventListener("input", apply);
    bar.hidden = false;
    apply();
  };

  document.documentElement.classList.add("scripted");
  document.querySelectorAll("tbody.image").forEach(setUpImage);
  document.querySelectorAll(".images").forEach(setUpFilters);
})();
