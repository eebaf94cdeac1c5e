const button = document.getElementById("toggle-code");
const blocks = document.querySelectorAll("details.code");

// On a phone a page is its headings, each with its main finding, until one is opened. Where the answer above says that
// already, or there is none, a heading has the beginning of what it opens.
const words = (node) => node.textContent.replace(/\s+/g, " ").trim();
const answered = words(document.getElementById("answer") || document.createElement("p"));
const leadOf = (section) => {
  const finding = section.querySelector(".finding p");
  if (finding && !answered.includes(words(finding))) return finding.textContent;
  const texts = section.querySelectorAll("p:not(.csv, .seen), caption, figcaption");
  const fresh = [...texts].map(words).find((text) => text && !answered.includes(text));
  const sentence = fresh && fresh.length > 160 && fresh.match(/^.+?(?:[.!?](?=\s\p{Lu}|$)|。)/u);
  return sentence ? sentence[0] : fresh;
};
const sections = [];
const narrow = matchMedia("(max-width: 40rem)").matches;
for (const heading of narrow ? document.querySelectorAll("article > h2") : []) {
  const section = document.createElement("details");
  const summary = document.createElement("summary");
  section.className = "section";
  heading.before(section);
  section.append(summary);
  summary.append(heading);
  while (section.nextSibling && section.nextSibling.nodeName !== "H2") section.append(section.nextSibling);
  const text = leadOf(section);
  if (text) {
    const lead = document.createElement("p");
    lead.className = "lead";
    lead.textContent = text;
    summary.append(lead);
  }
  sections.push(section);
}
document.body.classList.toggle("folded", sections.length > 0);
if (button && sections.length) document.querySelector("main").append(button); // who wants code has read to the end
const openAll = () => sections.forEach((section) => { section.open = true; });
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const section = target && target.closest("details.section");
  if (section) {
    section.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", reveal);
addEventListener("beforeprint", openAll);
reveal();

if (button && blocks.length) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(open));
    button.textContent = open ? button.dataset.hide : button.dataset.show;
    blocks.forEach((block) => { block.open = open; });
    if (open) openAll();
  });
}
