// General parts of the page: radio buttons, files, messages.

export const $ = (id) => document.getElementById(id);

/**
 * Fill a box with radio buttons. Returns the inputs: value -> input.
 *
 * `options` are objects `{value, label, …}`; further properties are set on the input. `onChoice` is called with the
 * chosen value.
 */
export function addRadioButtons(box, name, options, onChoice) {
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

/** Call `onFile` with each file that the user chooses, drops anywhere on the page, or pastes. */
export function listenForFiles(input, onFile) {
  const take = (files) => files.length && onFile(files[0]);
  input.addEventListener("change", async () => {
    await take(input.files);
    input.value = ""; // so that the same file can be chosen again
  });
  addEventListener("paste", (event) => take(event.clipboardData.files));
  const dropping = (on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    event.preventDefault(); // otherwise the browser would leave the page and open the file
    dropping(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget || dropping(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false);
    take(event.dataTransfer.files);
  });
}

/** Let the user save the content of a canvas as a PNG file. */
export function save(canvas, name) {
  canvas.toBlob((blob) => {
    const href = URL.createObjectURL(blob);
    Object.assign(document.createElement("a"), { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  });
}

/** Show a status or error message. An empty text hides the message. */
export function showMessage(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}
