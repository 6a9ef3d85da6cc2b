"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = id => document.getElementById(id);

// Enlarge an image; the arrow keys show the next one that is visible.
const viewer = one("viewer");
let shown = null;
function enlarge(button) {
  shown = button;
  const image = button.querySelector("img");
  one("viewer-image").src = image.src;
  one("viewer-image").alt = image.alt;
  one("viewer-text").textContent = button.dataset.caption;
  if (!viewer.open) viewer.showModal();
}
function step(by) {
  const visible = all(".zoom").filter(button => button.offsetParent);
  enlarge(visible[(visible.indexOf(shown) + by + visible.length) % visible.length]);
}
document.addEventListener("click", event => {
  const button = event.target.closest(".zoom");
  if (button) enlarge(button);
});
viewer.addEventListener("click", event => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener("close", () => shown.focus());
viewer.addEventListener("keydown", event => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (by) { event.preventDefault(); step(by); }
});
one("viewer-next").addEventListener("click", () => step(1));
one("viewer-previous").addEventListener("click", () => step(-1));
one("viewer-close").addEventListener("click", () => viewer.close());

// Compare the two tokens on the same noise: the initializer token on the left of the bar, the learned embedding right of it.
const pairs = one("pair"), range = one("share");
function find(subject) {
  const [prompt, seed, setting] = JSON.parse(pairs.value);
  return all(".zoom[data-subject]").find(button => button.dataset.subject === subject
    && button.dataset.prompt === prompt && button.dataset.seed === seed && button.dataset.setting === setting);
}
function compare() {
  for (const subject of ["initializer", "word"]) {
    const image = find(subject).querySelector("img");
    one("compare-" + subject).src = image.src;
    one("compare-" + subject).alt = image.alt;
  }
}
function slide() { one("compare").style.setProperty("--at", range.value + "%"); }
pairs.addEventListener("change", compare);
range.addEventListener("input", slide);
for (const type of ["pointerdown", "pointermove"])
  one("compare").addEventListener(type, event => {
    if (!event.buttons) return;
    const { left, width } = one("compare").getBoundingClientRect();
    range.value = 100 * (event.clientX - left) / width;
    slide();
  });
one("compare-box").hidden = false;
compare();
slide();

// Filter the renders.
const filters = all(".filters select");
function filter() {
  for (const item of all("[data-prompt], .side"))
    item.hidden = filters.some(select => select.value && item.dataset[select.name] !== undefined
      && item.dataset[select.name] !== select.value);
  const count = all(".renders .zoom").filter(button => button.offsetParent).length;
  one("count").textContent = count + (count === 1 ? " image" : " images");
}
for (const select of filters) select.addEventListener("change", filter);
one("filters").hidden = false;
filter();

// Copy what stands before the button.
for (const button of all(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = one(button.dataset.from);
    try { await navigator.clipboard.writeText(source.textContent); }
    catch { getSelection().selectAllChildren(source); document.execCommand("copy"); }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
addEventListener("beforeprint", () => { for (const details of all("details")) details.open = true; });
