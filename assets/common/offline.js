// Streamlit's own message about a lost connection lies over the page and swallows the keys. Where an outbox is
// on the page, keys are kept and sent again, and its views say how many wait.
new MutationObserver(() => {
  const dialog = document.querySelector('body > [data-testid="stDialog"]');
  if (!dialog?.textContent?.startsWith("Connection error")) return;
  /** @type {HTMLElement | null} */ (dialog.querySelector('section [aria-label="Close"]'))?.click();
}).observe(document.body, { childList: true });
