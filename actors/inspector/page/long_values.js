// Long texts and bytes, read part by part in a dialog.

import { get } from "./api.js";
import { dialog, h, number, said } from "./dom.js";

/** Whether more of a value can be read than the node has. */
export const isCut = (node) => node !== null && typeof node === "object" && (node.$ === "text" || node.$ === "content" || (node.$ === "bytes" && node.n > node.v.length / 2));

/** Show a value. `asked`: agent, seq, `of` ("memory" or "event"), and `path` or `property`, as the address `long` takes them. */
export function readLong(title, asked) {
  const note = h("p", { class: "dim", role: "status" }, "reading …");
  const text = h("pre", { class: "code", tabindex: "0", "aria-label": "Value" });
  const more = h("button", { type: "button", class: "button", hidden: true, onclick: () => read() }, "Show more");
  const box = dialog(title, note, text);
  box.querySelector(".ends").prepend(more);
  let first = 0;
  const read = async () => {
    more.disabled = true;
    try {
      const answer = await get("long", { ...asked, first });
      text.append(first > 0 && asked.kind === "bytes" ? " " : "", said(answer.part));
      first = answer.next;
      const unit = asked.kind === "bytes" ? "bytes" : "characters";
      note.textContent = first < answer.length ? `the first ${number(first)} of ${number(answer.length)} ${unit}` : `${number(answer.length)} ${unit}`;
      more.hidden = first >= answer.length;
    } catch (error) {
      note.textContent = error.message;
      note.className = "failed";
    }
    more.disabled = false;
  };
  read();
  return box;
}

/** The kind of a node's value, for `readLong`. */
export const kindOf = (node) => (node.$ === "bytes" || node.v === "bytes" ? "bytes" : "text");
