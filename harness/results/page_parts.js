"use strict";
// What the scripts of all pages stand on.
const byId = (id) => document.getElementById(id);
const whole = new Promise((done) => {
  if (document.readyState !== "loading") done();
  else addEventListener("DOMContentLoaded", done, { once: true });
});
const unpack = async (id) => {
  const text = atob(byId(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
};

// Everything shown goes through here: as text, with control, invisible and direction characters spelt out.
const HIDDEN = new RegExp("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u200b-\\u200f\\u2028-\\u202f\\u2060-\\u206f\\ufeff"
  + "\\ufff9-\\ufffb]|[\\ud800-\\udbff](?![\\udc00-\\udfff])|(?<![\\ud800-\\udbff])[\\udc00-\\udfff]", "g");
const visible = (text) => text.replace(HIDDEN, (c) => {
  const code = c.charCodeAt(0).toString(16);
  return code.length > 2 ? "\\u" + code.padStart(4, "0") : "\\x" + code.padStart(2, "0");
});
const make = (tag, className, ...children) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const child of children) element.append(typeof child === "string" ? visible(child) : child);
  return element;
};
// What scrolls sideways shows that it does: its edge fades, and a line above it says where more is.
const showEdges = (scroller) => {
  const note = make("p", "soft edges");
  note.setAttribute("aria-hidden", "true");
  note.hidden = true;
  scroller.before(note);
  const update = () => {
    const left = scroller.scrollLeft > 1;
    const right = scroller.scrollLeft + scroller.clientWidth < scroller.scrollWidth - 1;
    scroller.classList.toggle("more-left", left);
    scroller.classList.toggle("more-right", right);
    note.hidden = scroller.hidden || !(left || right);
    note.textContent = left && right ? "\u2190 scroll sideways \u2192" : left ? "\u2190 scroll sideways" : "scroll sideways \u2192";
    if ((left || right) && !scroller.hasAttribute("tabindex") && !scroller.querySelector("[tabindex]")) scroller.tabIndex = 0;
  };
  scroller.addEventListener("scroll", update, { passive: true });
  const observer = new ResizeObserver(update);
  observer.observe(scroller);
  for (const child of scroller.children) observer.observe(child);
};
whole.then(() => document.querySelectorAll(".scroll").forEach(showEdges));
const count = (number, thing) => number + " " + thing + (number === 1 ? "" : "s");
