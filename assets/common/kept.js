// What waits to be sent, kept by the tab: it outlives a reload, and the way to sign in and back.

/** @param {string} name */
export function kept(name) {
  return {
    read: () => stored((storage) => storage.getItem(name)),
    /** @param {string} text "" for nothing */
    write: (text) => void stored((storage) => (text ? storage.setItem(name, text) : storage.removeItem(name))),
  };
}

/** @template T @param {(storage: Storage) => T} act @returns {T | null} */
function stored(act) {
  try {
    return act(sessionStorage);
  } catch {
    return null; // a browser may forbid storage, or have no room: then a reload forgets what waits, and is warned about
  }
}

let signing = false;
addEventListener("click", ({ target }) => {
  signing = target instanceof Element && target.closest('a[href^="/sign-in"]') !== null;
});

/** Warns who leaves while something waits. @param {() => boolean} waits */
export function warn(waits) {
  addEventListener("beforeunload", (event) => {
    if (!signing && waits()) event.preventDefault();
  });
}
