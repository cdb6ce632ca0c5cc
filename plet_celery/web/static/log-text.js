// Words of the log viewer: addresses of lines, and text that is copied.

/** Read `#a2L123` or `#a2L123-L140`; null for any other fragment. */
export function parseFragment(text) {
  const found = /^#a(\d{1,5})L(\d{1,10})(?:-L(\d{1,10}))?$/.exec(text);
  if (!found) return null;
  const [first, last] = [Number(found[2]), Number(found[3] ?? found[2])];
  return { attempt: Number(found[1]), first: Math.min(first, last), last: Math.max(first, last) };
}

/** Copy text, also where the page is not served over HTTPS; resolves to whether it worked. */
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not permitted: the old way may be.
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** Return the text of rows, with what stands before it if that is wanted. */
export function textOf(rows, isDecorated) {
  const of = (row, name) => row.querySelector(`.plet-log-${name}`)?.textContent ?? "";
  return rows.map((row) => {
    const text = row.querySelector(".plet-log-title")?.textContent ?? of(row, "text");
    if (!isDecorated) return text;
    const stamp = row.querySelector("time")?.getAttribute("datetime") ?? "";
    const head = [stamp, of(row, "level"), of(row, "source")].filter(Boolean).map((one) => `[${one}]`);
    return [...head, text].join(" ");
  }).join("\n") + "\n";
}

/** Return a number with spaces between thousands. */
export function spaced(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, " ");
}
