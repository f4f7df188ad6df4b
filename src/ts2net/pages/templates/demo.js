// Clips play while the mouse is over them, or when they are tapped.
function playOnDemand(button) {
  const video = button.firstElementChild;
  const isMouse = (event) => event.pointerType === "mouse";
  button.addEventListener("pointerenter", (event) => isMouse(event) && video.play());
  button.addEventListener("pointerleave", (event) => isMouse(event) && video.pause());
  button.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
}
for (const button of document.querySelectorAll(".clip button")) playOnDemand(button);

// The search box: finds the shortest phrase with known scores that contains all typed words.
const { phrases, suggestions: begin, hits, command } = JSON.parse(document.getElementById("answers").textContent);
const library = [...document.querySelectorAll("#library > .clip")];
const form = document.getElementById("search");
const input = form.querySelector("input");
const suggestions = document.getElementById("suggestions");
const answered = document.getElementById("answered");
const results = document.getElementById("hits");

function show(phrase) {
  const index = phrases.indexOf(phrase);
  answered.textContent = `The best of ${library.length} clips for “${phrase}”:`;
  results.replaceChildren(...hits[index].map(([clip, score]) => {
    const card = library[clip].cloneNode(true);
    const line = document.createElement("b");
    line.className = "ts-number";
    line.textContent = `${score.toFixed(2)} `;
    card.querySelector("figcaption").prepend(line);
    playOnDemand(card.querySelector("button"));
    return card;
  }));
}

function search() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (phrase) => {
    const has = phrase.toLowerCase().split(/[^\p{L}\p{N}]+/u);
    return words.every((word) => has.some((one) => one.startsWith(word)));
  };
  const matching = words.length ? phrases.filter(fits).sort((one, other) => one.length - other.length) : begin;
  suggestions.replaceChildren(...matching.slice(0, 8).map((phrase) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = phrase;
    button.addEventListener("click", () => show(phrase));
    return button;
  }));
  if (matching.length) {
    show(phrases.find((phrase) => phrase.toLowerCase() === input.value.trim().toLowerCase()) ?? matching[0]);
  } else {
    answered.textContent = `No phrase has these words. For any sentence: ${command} "${input.value.trim()}"`;
    results.replaceChildren();
  }
}

form.hidden = false;
form.addEventListener("submit", (event) => event.preventDefault());
input.addEventListener("input", search);
search();
