// Where the programs of the map work: in a page they have all of it, and its content is in the page too.
const root = document, ground = document.documentElement;
const data = JSON.parse(root.getElementById("data").textContent);
