// Who looks: the token, which stays in this tab only, and what the service says of it.

const KEY = "tollhouse.token";

export const session = { who: null };

export function token() {
  return sessionStorage.getItem(KEY);
}

export function authorization() {
  const given = token();
  return given ? { Authorization: `Bearer ${given}` } : {};
}

/** Asks who one is. Null where a token is needed, and there is none or it is not known. */
export async function enter(given = token()) {
  const headers = given ? { Authorization: `Bearer ${given}` } : {};
  // early.js has asked already; an answer is read once.
  const early = window.tollhouseEarly;
  delete window.tollhouseEarly;
  const reply = await (early && early.token === given ? early.reply : fetch("/session", { headers }));
  if (reply.status === 401) {
    leave();
    return null;
  }
  if (!reply.ok) throw new Error(`/session answered ${reply.status}`);
  session.who = await reply.json();
  if (given && session.who.tokens) sessionStorage.setItem(KEY, given);
  return session.who;
}

export function leave() {
  sessionStorage.removeItem(KEY);
  session.who = null;
}

/** Whether only some rows are shown: those of one consumer, or of one workspace. */
export function isPortal() {
  return Boolean(session.who?.consumer || session.who?.workspace);
}
