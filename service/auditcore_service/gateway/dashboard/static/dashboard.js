"use strict";
/* What a page can do with a script: copy, show progress as it comes, show only the fields that count. Every page can be
   read, and every form sent, without it. */
(() => {
  /* Copy buttons are hidden until there is something that copies. */
  function copying(root) {
    for (const button of root.querySelectorAll("[data-copy]")) {
      button.hidden = false;
      if (button.dataset.ready) continue;
      button.dataset.ready = "yes";
      button.addEventListener("click", async () => {
        const source = document.getElementById(button.dataset.copy);
        await copy(source);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
    }
  }

  async function copy(source) {
    // the clipboard is offered to secure pages only; a selection can be copied everywhere
    if (navigator.clipboard) {
      try {
        await navigator.clipboard.writeText(source.textContent);
        return;
      } catch (_refused) { /* the selection below is the other way */ }
    }
    getSelection().selectAllChildren(source);
    document.execCommand("copy");
  }

  /* Fields for the chosen kind only. */
  function choosing(root) {
    for (const group of root.querySelectorAll("[data-shown-for]")) {
      const choice = document.getElementById(group.dataset.shownFor);
      const show = () => { group.hidden = !group.dataset.values.split(" ").includes(choice.value); };
      choice.addEventListener("change", show);
      show();
    }
  }

  /* One stream for all rows that are under way. */
  let stream = null;
  function following() {
    if (stream) stream.close();
    stream = null;
    const place = document.querySelector("[data-live-list], [data-live-page]");
    if (!place) return;
    const rows = place.matches("[data-under-way]") ? [place] : [...place.querySelectorAll("[data-under-way]")];
    if (!rows.length) return;
    const query = rows.map((row) => "id=" + encodeURIComponent(row.dataset.job)).join("&");
    const path = place.dataset.liveList || place.dataset.livePage;
    stream = new EventSource(`${path}/events?${query}`);
    stream.addEventListener("progress", (event) => progressed(place, path, JSON.parse(event.data)));
    stream.addEventListener("end", () => stream.close());
  }

  function progressed(place, path, told) {
    const row = rowOf(told.id);
    if (!row || !row.matches("[data-under-way]")) return;
    if (told.ended) {
      if (place.dataset.livePage) location.reload();
      else if (path === "/ui/audits") htmx.ajax("GET", `${path}/${told.id}/row`, { target: row, swap: "outerHTML" });
      else location.reload();
      return;
    }
    for (const part of row.querySelectorAll("[data-live]")) {
      if (part.dataset.live === "bar") part.value = told.fraction;
      if (part.dataset.live === "share") part.textContent = `${Math.round(100 * told.fraction)} %`;
      if (part.dataset.live === "left") part.textContent = told.left ? `about ${told.left} left` : "";
      if (part.dataset.live === "state") stated(part, told.state);
    }
  }

  function stated(part, state) {
    const busy = state === "running" || state === "finalizing";
    part.className = `state ${busy ? "busy" : "plain"}`;
    part.textContent = `${busy ? "▸" : "…"} ${state}`;
  }

  function rowOf(id) {
    return [...document.querySelectorAll("[data-job]")].find((row) => row.dataset.job === id);
  }

  /* Filters that are empty stay out of the address. */
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb !== "get") return;
    for (const name of Object.keys(event.detail.parameters)) {
      if (event.detail.parameters[name] === "") delete event.detail.parameters[name];
    }
  });
  /* A refusal of a filter is a whole page; it is shown as one. */
  document.addEventListener("htmx:responseError", (event) => {
    if (event.detail.requestConfig.verb === "get") location.assign(event.detail.pathInfo.finalRequestPath);
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    copying(document);
    if (event.detail.target.id === "audits") following();
  });

  copying(document);
  choosing(document);
  following();
})();
