// Behaviour of the page frame: colour scheme, menu, live text that keeps focus and selection, ages, copying.
// Everything user-made arrives as escaped HTML from the server; this file never builds HTML from data.
(() => {
  "use strict";
  const root = document.documentElement;
  const THEME_KEY = "ttrl-studio.theme";

  // --- colour scheme -------------------------------------------------------------------------------------------
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  function chosen() {
    const forced = new URLSearchParams(location.search).get("__theme");
    if (forced === "dark" || forced === "light") return forced;
    try { return localStorage.getItem(THEME_KEY); } catch { return null; }
  }
  function applyTheme() {
    const dark = (chosen() || (systemDark.matches ? "dark" : "light")) === "dark";
    root.dataset.theme = dark ? "dark" : "light";
    if (document.body && document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
    for (const button of document.querySelectorAll(".tt-theme")) button.setAttribute("aria-pressed", String(dark));
  }
  applyTheme();
  systemDark.addEventListener("change", applyTheme);

  function toggleTheme() {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem(THEME_KEY, next); } catch { /* private mode: the choice lasts for this page */ }
    root.dataset.theme = next;
    document.body.classList.toggle("dark", next === "dark");
    applyTheme();
  }

  // --- header --------------------------------------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    if (target.closest(".tt-theme")) toggleTheme();
    const header = document.querySelector(".tt-header");
    const menu = target.closest(".tt-menu-btn");
    if (header && (menu || (header.dataset.open !== undefined && !target.closest(".tt-nav")))) {
      const open = Boolean(menu) && header.dataset.open === undefined;
      if (open) header.dataset.open = ""; else delete header.dataset.open;
      header.querySelector(".tt-menu-btn").setAttribute("aria-expanded", String(open));
    }
    const copy = target.closest("[data-copy]");
    if (copy) copyFrom(copy);
  });
  document.addEventListener("keydown", (event) => {
    const header = document.querySelector(".tt-header");
    if (event.key === "Escape" && header && header.dataset.open !== undefined) {
      delete header.dataset.open;
      header.querySelector(".tt-menu-btn").setAttribute("aria-expanded", "false");
      header.querySelector(".tt-menu-btn").focus();
    }
  });

  async function copyFrom(button) {
    const source = document.getElementById(button.dataset.copy);
    if (!source) return;
    const text = source.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // The clipboard interface exists on https and localhost only.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.dataset.done = "";
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => { delete button.dataset.done; button.setAttribute("aria-label", "Copy"); }, 1600);
  }

  // --- live HTML: change only what changed, so focus, selection, scroll and open details survive a refresh --------
  function sameKind(a, b) {
    return a.nodeType === b.nodeType && a.nodeName === b.nodeName
      && (a.nodeType !== 1 || (a.getAttribute("data-key") || "") === (b.getAttribute("data-key") || ""));
  }
  // What each field last told the server, until an answer holds it.
  const told = new WeakMap();
  // Whether an answer from the server may change a field. It may not while a person is in it and has typed on, or has
  // told something that this answer does not know of yet: the later entry would be lost.
  function settled(field, wanted) {
    const said = told.has(field) ? told.get(field) : field.getAttribute("value") || "";
    const older = told.has(field) && wanted !== said;
    const free = document.activeElement !== field || (field.value === said && !older);
    if (!older) told.delete(field);
    return free;
  }
  function patchAttributes(from, to) {
    const keepOpen = from.nodeName === "DETAILS";
    // A field keeps what is being typed, unless the server now holds another value than it did.
    const typed = from instanceof HTMLInputElement && from.type !== "checkbox";
    const wanted = to.getAttribute("value") || "";
    const filled = typed && settled(from, wanted) && (from.getAttribute("value") || "") !== wanted;
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && !(keepOpen && name === "open")) from.removeAttribute(name);
    }
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    // After the attributes: a slider takes no value beyond its end.
    if (filled) from.value = wanted;
    // What a person clicked lives in the property; the server's answer decides in the end.
    if (from instanceof HTMLInputElement && from.type === "checkbox") from.checked = to.hasAttribute("checked");
    if (from instanceof HTMLOptionElement) from.selected = to.hasAttribute("selected");
  }
  function patchChildren(from, to) {
    let here = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      const key = wanted.nodeType === 1 ? wanted.getAttribute("data-key") : null;
      if (key && here && !sameKind(here, wanted)) {
        const found = [...from.children].find((child) => sameKind(child, wanted));
        if (found) { from.insertBefore(found, here); here = found; }
      }
      if (!here) { from.append(wanted); continue; }
      if (!sameKind(here, wanted)) { from.insertBefore(wanted, here); continue; }
      if (here.nodeType === 1) {
        if (!here.isEqualNode(wanted) || here.nodeName === "INPUT") { patchAttributes(here, wanted); patchChildren(here, wanted); }
      } else if (here.nodeValue !== wanted.nodeValue) {
        here.nodeValue = wanted.nodeValue;
      }
      here = here.nextSibling;
    }
    while (here) { const next = here.nextSibling; here.remove(); here = next; }
  }
  function patch(element, html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const logs = [...element.querySelectorAll(".tt-log")];
    const pinned = logs.map((log) => log.scrollTop + log.clientHeight >= log.scrollHeight - 24);
    patchChildren(element, template.content);
    logs.forEach((log, i) => { if (pinned[i] && log.isConnected) log.scrollTop = log.scrollHeight; });
    if (!logs.length) for (const log of element.querySelectorAll(".tt-log")) log.scrollTop = log.scrollHeight;
    showAges();
    const title = element.querySelector("[data-title]");
    if (title) document.title = `${title.dataset.title} · TTRL Studio`;
  }

  // The whole choice travels with every click: two quick clicks can then not undo each other.
  function chosenOf(place, group) {
    return [...place.querySelectorAll(`input[data-group="${group}"]:checked`)].map((box) => box.value).join(",");
  }

  // A slider counts places; `data-values` names what stands at each.
  function meant(field) {
    return field.dataset.values ? field.dataset.values.split(",")[Number(field.value)] : field.value;
  }

  // A live part: `value` is HTML from the server. A click on [data-pick] reports its value to the server.
  function live(element, props, watch, trigger) {
    const place = element.querySelector(".tt-live") || element;
    const draw = () => patch(place, props.value || "");
    watch("value", draw);
    draw();
    const pickGroup = (box) => {
      const chosen = chosenOf(place, box.dataset.group);
      const url = new URL(location.href);
      if (chosen) url.searchParams.set(box.dataset.group, chosen); else url.searchParams.delete(box.dataset.group);
      history.replaceState(null, "", url.href.replaceAll("%2C", ","));
      trigger("select", { value: `${box.dataset.pick}:${chosen}`, checked: box.checked });
    };
    place.addEventListener("click", (event) => {
      const pick = event.target instanceof Element ? event.target.closest("[data-pick]") : null;
      if (!pick || event.ctrlKey || event.metaKey || event.shiftKey) return;
      const input = pick instanceof HTMLInputElement;
      if (input && pick.dataset.group) { pickGroup(pick); return; }
      if (!input) event.preventDefault();
      const href = pick.getAttribute("href") || pick.dataset.href;
      if (href) history.replaceState(null, "", href);
      const choice = pick.dataset.with ? `:${chosenOf(place, pick.dataset.with)}` : "";
      trigger("select", { value: pick.dataset.pick + choice, checked: input ? pick.checked : null });
      const goal = pick.dataset.scroll && document.getElementById(pick.dataset.scroll);
      if (goal) goal.scrollIntoView({ block: "start" });
    });
    // A slider says at once which step it stands for; the vote itself comes with the answer.
    place.addEventListener("input", (event) => {
      const slider = event.target instanceof HTMLInputElement && event.target.dataset.values ? event.target : null;
      if (!slider) return;
      slider.setAttribute("aria-valuetext", `step ${meant(slider)}`);
      const shown = slider.parentElement.querySelector("output");
      if (shown) shown.textContent = `step ${meant(slider)}`;
    });
    place.addEventListener("change", (event) => {
      const pick = event.target;
      const field = pick instanceof HTMLSelectElement || (pick instanceof HTMLInputElement && pick.type !== "checkbox");
      if (field && pick.dataset.pickName) {
        if (pick.dataset.href) history.replaceState(null, "", pick.dataset.href + encodeURIComponent(meant(pick)));
        if (pick instanceof HTMLInputElement) told.set(pick, pick.value);
        trigger("select", { value: `${pick.dataset.pickName}:${pick.value}`, checked: null });
      }
    });
  }

  // --- ages: <span data-age="seconds at arrival"> counts up on its own, and turns to a warning when too old --------
  function words(seconds) {
    const s = Math.max(0, Math.round(seconds));
    if (s < 90) return `${s} s`;
    if (s < 5400) return `${Math.round(s / 60)} min`;
    if (s < 172800) return `${Math.round(s / 3600)} h`;
    return `${Math.round(s / 86400)} days`;
  }
  function showAges() {
    const now = performance.now() / 1000;
    for (const span of document.querySelectorAll("[data-age]")) {
      if (span.dataset.ageSeen !== span.dataset.age) { span.dataset.ageSeen = span.dataset.age; span.dataset.ageAt = String(now); }
      const age = Number(span.dataset.age) + now - Number(span.dataset.ageAt);
      const late = span.dataset.ageLimit && age > Number(span.dataset.ageLimit);
      const text = (late ? span.dataset.ageLate : span.dataset.ageText || "{} ago").replace("{}", words(age));
      if (span.textContent !== text) span.textContent = text;
      span.classList.toggle("tt-stale", Boolean(late));
    }
  }
  setInterval(showAges, 1000);

  document.addEventListener("DOMContentLoaded", () => {
    applyTheme();
    // Gradio sets its own idea of the scheme once it is up; ours decides.
    new MutationObserver(applyTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });

  window.ttrl = Object.assign(window.ttrl || {}, { live });
})();
