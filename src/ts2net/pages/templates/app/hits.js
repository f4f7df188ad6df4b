const fields = ["text", "clip", "filter", "count", "all", "in"];
const pageTitle = document.title;
let isArriving = true; // the next result belongs to the current address
const go = (address) => trigger("go", { address });
watch("value", () => {
  const section = element.querySelector("[data-address]");
  const wasAsked = isArriving;
  isArriving = false;
  if (!section) return; // an error
  const url = new URL(location.href);
  for (const field of fields) url.searchParams.delete(field);
  for (const [field, value] of new URLSearchParams(section.dataset.address)) url.searchParams.append(field, value);
  url.hash = "";
  if (wasAsked) history.replaceState(null, "", url);
  else if (url.search !== location.search) history.pushState(null, "", url);
  document.title = section.dataset.title ? `${section.dataset.title} – ${pageTitle}` : pageTitle;
});
addEventListener("popstate", () => {
  isArriving = true;
  go(location.search);
});

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
  const link = event.target.closest("a.ts-go");
  if (link && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
    event.preventDefault();
    go(link.getAttribute("href"));
  }
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".ts-play")) play(player(button));
  if (button.matches(".ts-best")) play(player(button), Number(button.dataset.second));
  if (button.matches(".ts-why")) {
    button.classList.add("ts-busy");
    trigger("explain", { window: button.dataset.window, address: button.closest(".ts-hits").dataset.address });
  }
});

const reason = async (address) => {
  try {
    const answer = await fetch(address, { headers: { Range: "bytes=0-0" } });
    return answer.ok ? "This browser can't play this kind of video." : await answer.text();
  } catch {
    return "The server can't be reached.";
  }
};
const unplayable = async (event) => {
  if (event.target.tagName !== "VIDEO") return;
  const screen = event.target.closest(".ts-screen");
  if (screen.querySelector(".ts-unplayable")) return;
  const message = document.createElement("p");
  message.className = "ts-unplayable";
  message.setAttribute("role", "alert");
  screen.append(message);
  event.target.controls = false;
  message.textContent = await reason(event.target.src.split("#")[0]);
};
element.addEventListener("error", unplayable, true);
