for (const button of document.querySelectorAll("button")) {
  const video = button.firstElementChild;
  const isMouse = (event) => event.pointerType === "mouse";
  button.addEventListener("pointerenter", (event) => isMouse(event) && video.play());
  button.addEventListener("pointerleave", (event) => isMouse(event) && video.pause());
  button.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
}
