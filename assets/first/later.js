// Charts wait behind a press: the script that draws them, a second's work, is loaded while nobody waits.
{
  const load = () => {
    const { page, script } = /** @type {HTMLElement | null} */ (document.querySelector("meta[name=later]"))?.dataset ?? {};
    if (script && page === location.pathname) import(script).catch(() => {}); // then at the press, as without this
  };
  const soon = () => setTimeout(() => (window.requestIdleCallback ?? setTimeout)(load), 2000); // after the page's own pictures
  addEventListener("load", soon);
  window.navigation?.addEventListener("currententrychange", soon);
}
