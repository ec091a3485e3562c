// The drawing area: strokes of a soft round brush, light on dark as in MNIST.

const BRUSH = 0.085; // of the width: what a pen is to MNIST's box of 20 × 20

/** Draws with mouse, pen or finger. It calls `onChange` after each stroke, and when a stroke begins. */
export class Pad {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(drawing: boolean) => void} onChange gets true while the pen is down
   */
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.context = canvas.getContext("2d");
    /** @type {[number, number][][]} */
    this.strokes = [];
    this.pen = null;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.go(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.end(event));
    this.paint();
  }

  get empty() {
    return !this.strokes.length;
  }

  undo() {
    this.strokes.pop();
    this.paint();
    this.onChange(false);
  }

  clear() {
    this.strokes = [];
    this.pen = null;
    this.paint();
    this.onChange(false);
  }

  /** @returns {Promise<Blob>} the drawing as a PNG file */
  picture() {
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }

  begin(event) {
    if (this.pen !== null || event.button) return;
    event.preventDefault();
    this.pen = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push([this.place(event)]);
    this.paint();
    this.onChange(true);
  }

  go(event) {
    if (event.pointerId !== this.pen) return;
    const places = event.getCoalescedEvents?.() ?? [];
    for (const one of places.length ? places : [event]) this.strokes.at(-1).push(this.place(one));
    this.paint();
  }

  end(event) {
    if (event.pointerId !== this.pen) return;
    this.pen = null;
    this.onChange(false);
  }

  /** @returns {[number, number]} */
  place(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - left) / width) * this.canvas.width,
      ((event.clientY - top) / height) * this.canvas.height,
    ];
  }

  paint() {
    const { context, canvas } = this;
    const brush = canvas.width * BRUSH;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    Object.assign(context, { strokeStyle: "#fff", lineCap: "round", lineJoin: "round", lineWidth: brush });
    Object.assign(context, { shadowColor: "#fff", shadowBlur: brush / 4 });
    for (const [start, ...others] of this.strokes) {
      context.beginPath();
      context.moveTo(...start);
      context.lineTo(start[0] + 0.01, start[1]); // a dot is a stroke, too
      for (const place of others) context.lineTo(...place);
      context.stroke();
    }
    context.shadowBlur = 0;
  }
}
