"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  const says = document.getElementById("says");
  const strength = document.getElementById("strength");

  const chosen = (name) => viewer.querySelector(`input[name="${name}"]:checked`);
  const value = (name, otherwise) => (chosen(name) ? chosen(name).value : otherwise);

  function show() {
    const slide = value("slide", "0");
    const kind = value("kind", "");
    const gene = value("gene", "0");
    const text = [];
    for (const panes of viewer.querySelectorAll(".panes")) {
      panes.hidden = panes.dataset.slide !== slide;
    }
    for (const map of viewer.querySelectorAll("img.map")) {
      const own = map.dataset.gene === "" || map.dataset.gene === gene;
      map.hidden = !(map.dataset.slide === slide && map.dataset.kind === kind && own);
      if (!map.hidden) {
        text.push(map.alt);
      }
    }
    const ofGene = chosen("kind").dataset.ofGene === "true";
    for (const key of viewer.querySelectorAll(".key")) {
      key.hidden = key.dataset.gene === "" ? kind !== "reliability" : !(ofGene && key.dataset.gene === gene);
    }
    for (const name of viewer.querySelectorAll(".shown")) {
      name.textContent = chosen("kind").dataset.label + (ofGene ? ` ${chosen("gene").dataset.label}` : "");
    }
    if (kind !== "" && text.length === 0) {
      text.push("There is no such map of this gene.");
    }
    says.textContent = [chosen("kind").dataset.says, ...text].join(" ");
  }

  function fade() {
    for (const map of viewer.querySelectorAll("img.map")) {
      map.style.opacity = String(Number(strength.value) / 100);
    }
  }

  document.getElementById("unscripted").hidden = true;
  viewer.querySelector(".controls").hidden = false;
  viewer.addEventListener("change", show);
  strength.addEventListener("input", fade);
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) {
      details.open = true;
    }
  });
  show();
  fade();
})();
