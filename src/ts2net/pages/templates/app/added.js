element.addEventListener("click", (event) => {
  const button = event.target.closest(".ts-remove");
  if (!button || !confirm(`Remove ${button.dataset.name} for everyone?`)) return;
  button.disabled = true;
  trigger("remove", { window: button.dataset.window });
});
