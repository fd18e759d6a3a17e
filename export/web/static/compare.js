// The view that shows a picture before and after, divided by a line that can be moved.

const GRIP = 24; // CSS pixels to each side of the line in which it can be grabbed while real pixels are shown
const KEY_STEP = 40; // CSS pixels that an arrow key moves the picture

/**
 * Connect the view with the input that moves the line and the button that shows real pixels.
 *
 * Returns the function that must be called with the size of each new picture, in pixels.
 */
export function connectView({ view, split, actual }) {
  const layers = [...view.querySelectorAll(".layer > :first-child")]; // the pictures
  let size = { width: 1, height: 1 };
  let shift = { x: 0, y: 0 }; // how far the picture is moved from the middle of the view, in CSS pixels
  const isActual = () => view.classList.contains("actual");

  const setSplit = (percent) => {
    split.value = percent;
    split.setAttribute("aria-valuetext", `${Math.round(percent)} % before, ${100 - Math.round(percent)} % after`);
    view.style.setProperty("--split", `${percent}%`);
  };

  const place = () => {
    const scale = 1 / devicePixelRatio; // one pixel of the picture is one of the screen
    const spare = { x: view.clientWidth - size.width * scale, y: view.clientHeight - size.height * scale };
    for (const axis of ["x", "y"]) {
      const limit = Math.max(0, -spare[axis] / 2);
      shift[axis] = Math.min(limit, Math.max(-limit, shift[axis]));
    }
    const onScreen = (pixels) => Math.round(pixels * devicePixelRatio) * scale; // otherwise it would be blurred
    for (const { style } of layers) {
      style.width = isActual() ? `${size.width * scale}px` : "";
      style.height = isActual() ? `${size.height * scale}px` : "";
      const [x, y] = ["x", "y"].map((axis) => onScreen(spare[axis] / 2 + shift[axis]));
      style.transform = isActual() ? `translate(${x}px, ${y}px)` : "";
    }
  };

  const move = (x, y) => {
    shift = { x: shift.x + x, y: shift.y + y };
    place();
  };

  listenForDrags(view, split, isActual, setSplit, move);
  split.addEventListener("input", () => setSplit(split.valueAsNumber));
  view.addEventListener("keydown", (event) => {
    const [x, y] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (event.target !== view || !(x || y)) return; // the input has the arrow keys for the line
    event.preventDefault(); // otherwise the page would scroll
    move(x * KEY_STEP, y * KEY_STEP);
  });
  actual.addEventListener("click", () => {
    view.classList.toggle("actual");
    actual.setAttribute("aria-pressed", String(isActual()));
    isActual() ? (view.tabIndex = 0) : view.removeAttribute("tabindex");
    place();
  });
  new ResizeObserver(place).observe(view);
  setSplit(50);

  return (width, height) => {
    if (width === size.width && height === size.height) return; // another model: the same part stays in sight
    size = { width, height };
    shift = { x: 0, y: 0 };
    view.style.setProperty("--width", width);
    view.style.setProperty("--height", height);
    place();
  };
}

/** Dragging moves the line. While real pixels are shown, dragging moves the picture, except near the line. */
function listenForDrags(view, split, isActual, setSplit, move) {
  let [pointer, last, isMoving] = [null, null, false];
  const percent = (event) => {
    const { left, width } = view.getBoundingClientRect();
    return Math.min(100, Math.max(0, (100 * (event.clientX - left)) / width));
  };
  view.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0) return; // one finger at a time
    const line = split.valueAsNumber;
    isMoving = isActual() && Math.abs(percent(event) - line) * view.clientWidth > 100 * GRIP;
    [pointer, last] = [event.pointerId, event];
    view.setPointerCapture(pointer);
    event.preventDefault(); // otherwise the browser would drag the image or select text
    if (isMoving) return;
    split.focus({ preventScroll: true, focusVisible: false });
    setSplit(percent(event));
  });
  view.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    isMoving ? move(event.clientX - last.clientX, event.clientY - last.clientY) : setSplit(percent(event));
    last = event;
  });
  const end = (event) => {
    if (event.pointerId === pointer) pointer = null;
  };
  for (const type of ["pointerup", "pointercancel"]) view.addEventListener(type, end);
}
