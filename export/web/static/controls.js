// Parts of the page that know nothing of what they are used for.

export const $ = (id) => document.getElementById(id);

/**
 * Fill a box with radio buttons; return them, value -> input.
 *
 * `options` are `{value, label}` and more properties of the input; `onChoice` gets the value chosen.
 */
export function choose(box, name, options, onChoice) {
  const inputs = {};
  for (const { label, ...properties } of options) {
    const input = Object.assign(document.createElement("input"), { type: "radio", name, ...properties });
    input.addEventListener("change", () => onChoice(input.value));
    const text = Object.assign(document.createElement("span"), { textContent: label });
    const outer = document.createElement("label");
    outer.append(input, text);
    box.append(outer);
    inputs[input.value] = input;
  }
  return inputs;
}

/** Call `onFile` with a file that is chosen, dropped anywhere on the page, or pasted. */
export function takeFiles(input, onFile) {
  const take = (files) => files.length && onFile(files[0]);
  input.addEventListener("change", async () => {
    await take(input.files);
    input.value = ""; // the same file may be chosen again
  });
  addEventListener("paste", (event) => take(event.clipboardData.files));
  const dropping = (on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    event.preventDefault(); // else the browser would open the file instead of the page
    dropping(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget || dropping(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false);
    take(event.dataTransfer.files);
  });
}

/** Offer what a canvas shows as a PNG file. */
export function save(canvas, name) {
  canvas.toBlob((blob) => {
    const href = URL.createObjectURL(blob);
    Object.assign(document.createElement("a"), { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  });
}

/** Say what goes on or went wrong; nothing if `text` is empty. */
export function say(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}
