// What axe would look for, of the page as the browser has laid it out: a list of faults, empty if there is none.
(() => {
  const faults = [];
  const fault = (rule, element) =>
    faults.push(`${rule}: ${element.outerHTML ? element.outerHTML.slice(0, 120) : element}`);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const text = (element) => (element ? element.textContent.trim() : "");
  const name = (element) =>
    (element.getAttribute("aria-label") || "").trim() ||
    (element.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean)
      .map((id) => text(document.getElementById(id))).join(" ").trim() ||
    (element.labels && [...element.labels].map(text).join(" ").trim()) ||
    text(element.querySelector(":scope > caption, :scope > title"));

  if (!document.documentElement.lang) fault("html without lang", document.documentElement.tagName);
  if (!document.title.trim()) fault("page without title", document.location.href);
  if (all("main").length !== 1) fault("not one main", document.location.href);
  if (!document.querySelector("meta[name=viewport]")) fault("no viewport", document.location.href);

  let level = 0;
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) fault(`heading jumps from ${level} to ${next}`, heading);
    if (!text(heading)) fault("empty heading", heading);
    level = next;
  }
  if (all("h1").length !== 1) fault("not one h1", document.location.href);

  for (const control of all("a[href], button, input, select, textarea, summary")) {
    if (!name(control) && !text(control)) fault("control without name", control);
  }
  for (const named of all("[tabindex], section, svg[role=img], img, [role=region]")) {
    if (!name(named) && !named.alt) fault("no name", named);
  }
  for (const hidden of all("svg:not([role])")) fault("drawing without role", hidden);
  for (const table of all("table")) {
    if (!name(table)) fault("table without name", table);
    if (!table.querySelector("thead th[scope=col]")) fault("table without heads", table);
    for (const head of table.querySelectorAll("th:not([scope])")) fault("head of nothing", head);
    const width = table.querySelectorAll("thead th").length;
    for (const row of table.querySelectorAll("tbody tr")) {
      if (row.cells.length !== width) fault("row of another width", row);
      if (!row.querySelector("th[scope=row]")) fault("row without head", row);
    }
  }
  const ids = all("[id]").map((element) => element.id);
  for (const id of ids.filter((id, at) => ids.indexOf(id) !== at)) fault("id twice", id);

  // Contrast as WCAG 2.1 has it, of what is really drawn: 4.5, or 3 for large text.
  const parse = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return { channels: [red, green, blue], alpha };
  };
  const luminance = ({ channels }) => {
    const [red, green, blue] = channels
      .map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.alpha === 1) return colour;
      if (colour.alpha > 0) fault("a ground that shines through", at);
    }
    return { channels: [255, 255, 255], alpha: 1 };
  };
  let read = 0;
  for (const element of all("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const style = getComputedStyle(element);
    if (!own || style.display === "none" || style.visibility === "hidden") continue;
    if (["SCRIPT", "STYLE", "NOSCRIPT", "TITLE", "title"].includes(element.tagName)) continue;
    const colour = parse(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(colour), luminance(ground(element))].sort((a, b) => b - a);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) fault(`contrast ${ratio.toFixed(2)}`, element);
    if (size < 9) fault(`text of ${size} pixels`, element);
    read += 1;
  }
  if (read < 50) fault("hardly any text", String(read));

  // What is too wide scrolls by itself; the page does not.
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) fault(`${scrollWidth} pixels wide on ${clientWidth}`, document.body.tagName);
  return faults;
})()
