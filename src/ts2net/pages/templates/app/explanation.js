watch("value", () => {
  for (const busy of document.querySelectorAll(".ts-busy")) busy.classList.remove("ts-busy");
  const dialog = element.querySelector("dialog");
  if (dialog) dialog.showModal();
  else element.scrollIntoView({ block: "center" });
});
