"use strict";
/* Draws the table of the history: its rows say everything, so that the chart and the table cannot differ. */
(() => {
  const table = document.getElementById("points");
  const place = document.getElementById("chart");
  if (!table || !place) return;
  const number = (text) => (text === "" ? null : Number(text));
  const numbers = (text) => text.split(" ").filter((part) => part !== "").map(Number);
  const rows = [...table.tBodies[0].rows].map((row) => ({
    time: Number(row.dataset.time),
    mean: number(row.dataset.mean),
    low: number(row.dataset.low),
    high: number(row.dataset.high),
    verdict: row.dataset.verdict,
    limits: [...numbers(row.dataset.least), ...numbers(row.dataset.most)],
    link: row.querySelector("a").href,
  }));
  const shown = rows.filter((row) => row.mean !== null);
  if (!shown.length) return;

  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const COLORS = { pass: "good", warn: "care", fail: "bad", inconclusive: "care", not_evaluated: "soft" };

  /* A sign for each verdict, so that none is told by its color only. */
  function sign(context, verdict, x, y, r) {
    context.beginPath();
    if (verdict === "fail") context.rect(x - r, y - r, 2 * r, 2 * r);
    else if (verdict === "warn") { context.moveTo(x, y - 1.2 * r); context.lineTo(x + 1.2 * r, y + r); context.lineTo(x - 1.2 * r, y + r); context.closePath(); }
    else if (verdict === "inconclusive") { context.moveTo(x, y - 1.4 * r); context.lineTo(x + 1.4 * r, y); context.lineTo(x, y + 1.4 * r); context.lineTo(x - 1.4 * r, y); context.closePath(); }
    else context.arc(x, y, r, 0, 2 * Math.PI);
  }

  function points(plot) {
    const { ctx: context } = plot;
    const ratio = uPlot.pxRatio;
    context.save();
    context.setLineDash([]); // that of the thresholds is left over
    context.lineWidth = 1.5 * ratio;
    for (const [position, row] of shown.entries()) {
      const x = plot.valToPos(position, "x", true);
      const y = plot.valToPos(row.mean, "y", true);
      context.strokeStyle = context.fillStyle = color(COLORS[row.verdict] || "soft");
      if (row.low !== null) {
        const ends = [row.low, row.high].map((end) => plot.valToPos(end, "y", true));
        context.beginPath();
        context.moveTo(x, ends[0]);
        context.lineTo(x, ends[1]);
        for (const end of ends) { context.moveTo(x - 4 * ratio, end); context.lineTo(x + 4 * ratio, end); }
        context.stroke();
      }
      sign(context, row.verdict, x, y, 5 * ratio);
      if (row.verdict === "not_evaluated") { context.fillStyle = color("raised"); context.fill(); context.stroke(); } else context.fill();
    }
    context.restore();
  }

  const most = Math.max(...shown.map((row) => row.limits.length));
  const limits = [...Array(most).keys()].map((which) => shown.map((row) => row.limits[which] ?? null));
  const values = shown.flatMap((row) => [row.mean, row.low, row.high, ...row.limits]).filter((value) => value !== null);
  const room = 0.08 * (Math.max(...values) - Math.min(...values)) || 0.05;
  const when = (position) => (Number.isInteger(position) && shown[position] ? new Date(1000 * shown[position].time).toISOString().slice(0, 10) : "");
  const axis = () => ({ stroke: color("soft"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line"), width: 1 }, font: `12px ${style.getPropertyValue("--sans")}` });

  function options(width) {
    return {
      width,
      height: 300,
      legend: { show: false },
      cursor: { y: false, points: { show: false } },
      scales: { x: { time: false, range: [-0.5, shown.length - 0.5] }, y: { range: [Math.min(...values) - room, Math.max(...values) + room] } },
      axes: [{ ...axis(), incrs: [1, 2, 5, 10, 20], space: 90, values: (_plot, ticks) => ticks.map(when) }, { ...axis(), size: 60 }],
      series: [
        {},
        { stroke: color("line"), width: 1, points: { show: false } },
        ...limits.map(() => ({ stroke: color("reference"), width: 1.5, dash: [6, 4], points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) })),
      ],
      hooks: { draw: [points] },
    };
  }

  let plot = null;
  function draw() {
    if (plot) plot.destroy();
    place.hidden = false;
    const width = place.clientWidth - 16;
    plot = new uPlot(options(width), [shown.map((_row, position) => position), shown.map((row) => row.mean), ...limits], place);
    plot.over.addEventListener("click", () => {
      const position = plot.cursor.idx;
      if (position !== null && position !== undefined) location.assign(shown[position].link);
    });
  }
  draw();
  let waiting = null;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
