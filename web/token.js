// The token that a page asks with, where the node wants one. It is in sessionStorage, and nowhere else: this tab has
// it until it is closed, no other one, and no address, cookie or log does.
const NAME = "cotidal-token";

export const looksLikeToken = (text) => /^ct_[0-9a-f]{64}$/.test(text);

export function heldToken() {
  try {
    return sessionStorage.getItem(NAME) || "";
  } catch {
    return ""; // where a browser keeps nothing
  }
}

export function holdToken(text) {
  try {
    sessionStorage.setItem(NAME, text);
  } catch {
    return false;
  }
  return true;
}

export function forgetToken() {
  try {
    sessionStorage.removeItem(NAME);
  } catch {
    // There is none then.
  }
}

// fetch() of this node, with the token when there is one.
export function askWithToken(path, options = {}) {
  const token = heldToken();
  return fetch(path, { cache: "no-store", ...options, headers: token ? { Authorization: "Bearer " + token } : {} });
}
