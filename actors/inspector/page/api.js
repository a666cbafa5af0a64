// Asking the server, and hearing from it.

export class Refused extends Error {
  constructor(kind, message, code) {
    super(message);
    this.kind = kind;
    this.code = code;
  }
}

let csrf = "";

export async function start() {
  const session = await get("session");
  csrf = session.csrf;
  return session;
}

export async function get(name, asked = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(asked)) if (value !== null && value !== undefined && value !== "") query.set(key, value);
  return read(await fetch(`/api/${name}?${query}`, { signal, credentials: "same-origin" }));
}

const sizes = new WeakMap();
/** How many bytes an answer had. */
export const sizeOf = (answer) => sizes.get(answer) ?? 100_000;

export async function act(name, fields) {
  const headers = { "Content-Type": "application/json", "X-Duramen-CSRF": csrf };
  return read(await fetch(`/api/actions/${name}`, { method: "POST", headers, body: JSON.stringify(fields), credentials: "same-origin" }));
}

async function read(response) {
  if (response.headers.get("content-type")?.startsWith("application/json")) {
    const answer = await response.json();
    if (response.ok) {
      sizes.set(answer, Number(response.headers.get("content-length")));
      return answer;
    }
    throw new Refused(answer.error, answer.message, response.status);
  }
  throw new Refused("Refused", (await response.text()).slice(0, 500).replace(/^duramen: /, ""), response.status);
}

/** Listen to changes. The browser reconnects by itself and sends the cursor of the last message; once refused, we do. */
export function listen(handlers) {
  let source = null;
  let last = "";
  const open = () => {
    source = new EventSource(last ? `/api/live?after=${last}` : "/api/live");
    for (const kind of ["hello", "reset", "changes", "beat", "lost"]) {
      source.addEventListener(kind, (message) => {
        last = message.lastEventId || last;
        handlers.state("live");
        handlers[kind]?.(JSON.parse(message.data));
      });
    }
    source.addEventListener("error", () => {
      handlers.state("offline");
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(open, 2000);
      get("session").catch((error) => { if (error instanceof Refused) handlers.refused(error); }); // a stream does not say why
    });
  };
  open();
  addEventListener("pagehide", () => source.close());
}
