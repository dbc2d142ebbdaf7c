// Where the programs of the map work in a notebook: in a tree of their own, so that several maps, and the notebook's own
// styles, do not meet.
const ground = document.createElement("div"), root = ground.attachShadow({ mode: "open" });
const data = model.get("_data");
ground.dataset.lmSuppressShortcuts = "true";  // keys that are pressed here are no commands of the notebook
root.innerHTML = MARKUP;  // the controls, which say nothing of any run
el.append(ground);
