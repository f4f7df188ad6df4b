const player = (node) => node.closest(".ts-card").querySelector("video");
const play = (video, second) => {
  for (const other of element.querySelectorAll("video")) if (other !== video) other.pause();
  video.controls = true;
  video.closest(".ts-screen").classList.add("ts-playing");
  const begin = () => {
    if (second !== undefined) video.currentTime = second;
    video.play().catch(() => {});
  };
  if (second === undefined || video.readyState > 0) return begin();
  video.addEventListener("loadedmetadata", begin, { once: true });
  video.preload = "auto";
  video.load();
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".ts-play")) play(player(button));
  if (button.matches(".ts-best")) play(player(button), Number(button.dataset.second));
  if (button.matches(".ts-why")) {
    button.classList.add("ts-busy");
    trigger("explain", { window: button.dataset.window, text: button.closest(".ts-hits").dataset.text });
  }
});
const unplayable = (event) => {
  if (event.target.tagName !== "VIDEO") return;
  const screen = event.target.closest(".ts-screen");
  if (screen.querySelector(".ts-unplayable")) return;
  const message = document.createElement("p");
  message.className = "ts-unplayable";
  message.textContent = "This browser can't play the file.";
  screen.append(message);
};
element.addEventListener("error", unplayable, true);
