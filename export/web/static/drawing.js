// Drawing with mouse, pen or finger, straight onto 28×28 pixels.

export const SIZE = 28;
const RADIUS = 1.25; // pixels: strokes are then 2 to 3 wide, as MNIST's
const EDGE = 1.4; // pixels from white to black

/** Add a straight stroke, points being `{x, y}` in pixels, to SIZE × SIZE pixels in [0, 1]. */
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

/** Call `onStroke(from, to)` for each piece of a line that is drawn on a canvas, while `isOn()`. */
export function listen(canvas, isOn, onStroke) {
  let [pointer, last] = [null, null]; // one at a time: a palm or a second finger draws nothing
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * SIZE, y: ((event.clientY - box.top) / box.height) * SIZE };
  };
  const end = (event) => {
    if (event.pointerId === pointer) pointer = null;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!isOn() || pointer !== null || event.button !== 0) return;
    event.preventDefault(); // neither selects nor scrolls
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    last = point(event);
    onStroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    if (!isOn() || !(event.buttons & 1)) return end(event); // another picture has come, or the release went elsewhere
    const coalesced = event.getCoalescedEvents?.() ?? []; // all that came since the last frame
    for (const part of coalesced.length ? coalesced : [event]) {
      const next = point(part);
      onStroke(last, next);
      last = next;
    }
  });
  for (const type of ["pointerup", "pointercancel"]) canvas.addEventListener(type, end);
}
