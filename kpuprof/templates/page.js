"use strict";
// What every part needs: the data, formats, and which run is shown.
const data = JSON.parse(document.getElementById("data").textContent);
const articles = [...document.querySelectorAll("article.run")];
const THIN = "\u202f";

function significant(value) {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function timeText(microseconds) {
  if (microseconds >= 1000) return significant(microseconds / 1000) + THIN + "ms";
  return significant(microseconds) + THIN + "µs";
}

function bytesText(bytes) {
  if (bytes < 1024) return bytes + THIN + "B";
  if (bytes < 1048576) return (bytes / 1024).toFixed(1) + THIN + "KiB";
  return (bytes / 1048576).toFixed(1) + THIN + "MiB";
}

const count = (value) => value.toLocaleString("en-US");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

function showRun(index) {
  articles.forEach((article, place) => { article.hidden = place !== index; });
  document.querySelectorAll(".switch button").forEach((button, place) => {
    button.setAttribute("aria-pressed", String(place === index));
  });
  articles[index].dispatchEvent(new Event("shown"));
}

document.querySelectorAll(".switch button").forEach((button) => {
  button.addEventListener("click", () => showRun(Number(button.dataset.run)));
});
