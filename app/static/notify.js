// Browser notifications of the run on this page. Permission is asked only on a click; nothing leaves the browser.
(() => {
  "use strict";
  const KEY = "ttrl-studio.notify";
  const ENDS = { finished: "is finished", failed: "has failed", lost: "was lost with its worker" };
  let before = null;

  function wanted() {
    try { return localStorage.getItem(KEY) === "yes"; } catch { return false; }
  }
  function allowed() { return "Notification" in window && Notification.permission === "granted" && wanted(); }

  function say() {
    const place = document.querySelector("[data-notify-said]");
    const button = document.querySelector("[data-notify-ask]");
    if (!place || !button) return;
    let text = "";
    if (!("Notification" in window) || !window.isSecureContext) {
      text = "This browser allows notifications only on https or on this machine itself.";
    } else if (Notification.permission === "denied") {
      text = "This browser refuses notifications of this page. Allow them in its settings for this site.";
    } else if (allowed()) {
      text = "Switched on in this browser.";
    }
    const words = allowed() ? "Do not tell me any more" : "Tell me in this browser";
    if (place.textContent !== text) place.textContent = text;
    if (button.textContent !== words) button.textContent = words;
  }

  async function ask() {
    if (!("Notification" in window)) return;
    const off = allowed();
    if (!off && Notification.permission === "default") await Notification.requestPermission();
    try { localStorage.setItem(KEY, off ? "no" : "yes"); } catch { /* private mode: nothing is remembered */ }
    say();
  }

  function tell(run, title, text, tag) {
    if (!allowed()) return;
    const note = new Notification(title, { body: text, tag: `ttrl-${run}-${tag}` });
    note.onclick = () => { window.focus(); note.close(); };
  }

  function look() {
    say();
    const mark = document.querySelector("[data-watch-run]");
    if (!mark) return;
    const now = { ...mark.dataset };
    const run = now.watchRun;
    const last = before;
    before = now;
    // The first look only learns how things stand.
    if (!last || last.watchRun !== run) return;
    if (now.state !== last.state && ENDS[now.state]) tell(run, `${now.name} ${ENDS[now.state]}`, "", now.state);
    if (Number(now.alarms) > Number(last.alarms)) tell(run, `${now.name}: alarm`, now.alarm, `alarm-${now.alarms}`);
    if (now.stalled === "1" && last.stalled !== "1") tell(run, `${now.name} has gone silent`, "No news for a while.", "stall");
  }

  document.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-notify-ask]")) ask();
  });
  setInterval(look, 2000);
})();
