const button = document.getElementById("toggle-code");
const blocks = document.querySelectorAll("details.code");
if (button && blocks.length) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(open));
    button.textContent = open ? button.dataset.hide : button.dataset.show;
    blocks.forEach((block) => { block.open = open; });
  });
}
