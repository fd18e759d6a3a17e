// Drawing with mouse, pen or finger, directly onto 28×28 pixels.

export const SIZE = 28;
const RADIUS = 1.25; // pixels; this makes strokes 2 to 3 pixels wide, as in MNIST
const EDGE = 1.4; // pixels over which the edge of a stroke fades from white to black

/** Draw a straight stroke onto SIZE × SIZE pixels in [0, 1]. `from` and `to` are points `{x, y}`, in pixels. */
export function stroke(pixels, from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length2 = dx * dx + dy * dy;
  for (let i = 0; i < pixels.length; i++) {
    const [x, y] = [(i % SIZE) + 0.5 - from.x, Math.floor(i / SIZE) + 0.5 - from.y];
    const along = length2 && Math.min(1, Math.max(0, (x * dx + y * dy) / length2));
    const distance = Math.hypot(x - along * dx, y - along * dy);
    const ink = Math.min(1, Math.max(0, 0.5 + (RADIUS - distance) / EDGE));
    pixels[i] = Math.max(pixels[i], ink);
  }
}

/** Call `onStroke(from, to)` for each segment of a line that the user draws on a canvas, as long as `isOn()`. */
export function listenForStrokes(canvas, isOn, onStroke) {
  let [pointer, last] = [null, null]; // one pointer at a time, so a palm or a second finger draws nothing
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * SIZE, y: ((event.clientY - box.top) / box.height) * SIZE };
  };
  const end = (event) => {
    if (event.pointerId === pointer) pointer = null;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!isOn() || pointer !== null || event.button !== 0) return;
    event.preventDefault(); // otherwise the browser would select text or scroll
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    last = point(event);
    onStroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    if (!isOn() || !(event.buttons & 1)) return end(event); // another picture, or released outside
    const coalesced = event.getCoalescedEvents?.() ?? []; // all events since the last frame
    for (const move of coalesced.length ? coalesced : [event]) {
      const next = point(move);
      onStroke(last, next);
      last = next;
    }
  });
  for (const type of ["pointerup", "pointercancel"]) canvas.addEventListener(type, end);
}
