// Talk with Python behind the page. What it refuses, it says why.
async function ask(path, body, method = body ? "POST" : "GET") {
  const headers = body ? { "content-type": "application/json" } : {};
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("Python does not answer: is `dynamo serve` still running?");
  }
  const table = await response.json().catch(() => ({ error: `the server answered with the status ${response.status}` }));
  if (!response.ok) throw new Error(table.error ?? `the server answered with the status ${response.status}`);
  return table;
}

/** Do something when a button is pressed, once at a time; what goes wrong is told beside it. */
function onPress(button, told, act) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    told.textContent = "";
    try {
      await act();
    } catch (problem) {
      told.textContent = problem.message;
    }
    button.disabled = false;
  });
}
