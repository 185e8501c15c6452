// Streamlit adds an address to the browser's history for each value that a page keeps in it, also while the page is only drawn: Back
// then led from a page to the same page. So one press adds one; what comes without another press takes its place.
{
  let pressed = false;
  for (const act of ["pointerdown", "click", "keydown"]) addEventListener(act, () => (pressed = true), true);
  const push = history.pushState.bind(history);
  history.pushState = (state, unused, url) => {
    if (pressed) push(state, unused, url);
    else history.replaceState(state, unused, url);
    pressed = false;
  };
}
