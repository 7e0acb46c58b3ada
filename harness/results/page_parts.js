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
const count = (number, thing) => number + " " + thing + (number === 1 ? "" : "s");
