// General parts of the page: tabs, radio buttons, files, messages.

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

/** Make the buttons of a list of tabs work. `onChoice` is called with the id of the panel that a tab controls. */
export function listenForTabs(list, onChoice) {
  const tabs = [...list.children];
  const choose = (chosen) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1; // the arrow keys lead to the others
    }
    onChoice(chosen.getAttribute("aria-controls"));
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      next.focus();
      choose(next);
    });
  }
}

/** Call `onFile` with each file that the user chooses, drops anywhere on the page, or pastes. */
export function listenForFiles(inputs, onFile) {
  const take = (files) => files.length && onFile(files[0]);
  for (const input of inputs) {
    input.addEventListener("change", async () => {
      await take(input.files);
      input.value = ""; // so that the same file can be chosen again
    });
  }
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

/** Let the user save a Blob as a file. */
export function save(blob, name) {
  const href = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

/** Let assistive technology know whether a tab is at work. The page is busy as long as one tab is. */
export function setBusy(tab, isBusy) {
  isBusy ? busy.add(tab) : busy.delete(tab);
  $(tab)?.setAttribute("aria-busy", String(isBusy));
  document.querySelector("main").setAttribute("aria-busy", String(busy.size > 0));
}

const busy = new Set();

/** Show a status or error message. An empty text hides the message. */
export function showMessage(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}
