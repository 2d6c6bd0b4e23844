// Line charts on a canvas: a few series over the last two minutes, a scale that does not jump, colours of the theme.

const SPAN = 120;
const LINES = 3;

/** The least number of the form 1, 2 or 5 times a power of ten that is not below `value`. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 5, 10]) if (step * power >= value) return step * power;
  return 10 * power;
}

export class Chart {
  /**
   * @param canvas where to draw.
   * @param series names of the history's values, each with the element that has its colour.
   * @param label makes the text of a value on the scale.
   * @param least the least end of the scale.
   */
  constructor(canvas, series, label, least) {
    this.canvas = canvas;
    this.series = series;
    this.label = label;
    this.least = least;
    this.top = least;
    this.points = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(history) {
    this.points = history;
    let most = this.least;
    for (const point of history) for (const { name } of this.series) most = Math.max(most, point[name]);
    const wanted = ceiling(most * 1.05);
    // It grows at once, and shrinks only when much less would do.
    if (wanted > this.top || wanted < this.top / 2.4) this.top = wanted;
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    const scale = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const box = { left: 0, top: 8, right: width - 52, bottom: height - 20 };
    this.drawScale(context, box, width);
    const end = this.points.length ? this.points[this.points.length - 1].at : 0;
    const x = at => box.right - ((end - at) / SPAN) * (box.right - box.left);
    const y = value => box.bottom - (Math.min(value, this.top) / this.top) * (box.bottom - box.top);
    context.save();
    context.beginPath();
    context.rect(box.left, 0, box.right - box.left + 3, height);
    context.clip();
    for (const series of this.series) this.drawSeries(context, series, x, y, box);
    context.restore();
  }

  drawScale(context, box, width) {
    const style = getComputedStyle(this.canvas);
    context.font = `11px ${style.fontFamily}`;
    context.fillStyle = style.color;
    context.strokeStyle = style.borderBottomColor;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    for (let line = 0; line <= LINES - 1; line++) {
      const share = line / (LINES - 1);
      const y = Math.round(box.bottom - share * (box.bottom - box.top)) + 0.5;
      context.beginPath();
      context.moveTo(box.left, y);
      context.lineTo(box.right, y);
      context.stroke();
      context.textAlign = "right";
      context.fillText(this.label(share * this.top), width - 1, y);
    }
    context.textBaseline = "alphabetic";
    for (const seconds of box.right > 420 ? [120, 90, 60, 30] : [120, 60]) {
      const x = box.right - (seconds / SPAN) * (box.right - box.left);
      context.textAlign = seconds === SPAN ? "left" : "center";
      context.fillText(`−${seconds} s`, x, box.bottom + 17);
    }
    context.textAlign = "right";
    context.fillText("now", box.right, box.bottom + 17);
  }

  drawSeries(context, { name, swatch, fill }, x, y, box) {
    const colour = getComputedStyle(swatch).color;
    const known = this.points.filter(point => point[name] >= 0);
    if (!known.length) return;
    context.beginPath();
    known.forEach((point, index) => context[index ? "lineTo" : "moveTo"](x(point.at), y(point[name])));
    context.strokeStyle = colour;
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.stroke();
    if (!fill) return;
    context.lineTo(x(known[known.length - 1].at), box.bottom);
    context.lineTo(x(known[0].at), box.bottom);
    context.closePath();
    context.globalAlpha = 0.09;
    context.fillStyle = colour;
    context.fill();
    context.globalAlpha = 1;
  }
}
