// The name that a person has given, kept by the browser.

/** @param {string} user */
export function remember(user) {
  document.cookie = `loupe_user=${encodeURIComponent(user)}; Max-Age=31536000; SameSite=Strict; Path=/`;
}
