"use strict";
/* Small line charts on canvases; null in the data is a gap. */

class Chart {
  /** lines: [{name, colour}]; unit: of the values; xName: of the abscissa; values that are measured
      `seldom`, now and then, are joined over gaps. */
  constructor(parent, title, unit, xName, lines, seldom = false) {
    this.seldom = seldom;
    this.xName = xName;
    this.lines = lines;
    this.figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = unit ? `${title} (${unit})` : title;
    for (const line of lines.length > 1 ? lines : []) {
      const key = document.createElement("span");
      key.className = "key";
      key.textContent = line.name;
      key.style.color = line.colour;
      caption.append(key);
    }
    this.canvas = document.createElement("canvas");
    this.figure.append(caption, this.canvas);
    parent.append(this.figure);
  }

  /** Draw columns of values over x; the chart is hidden while nothing was measured. */
  draw(x, columns) {
    const measured = columns.flat().filter((value) => value !== null);
    this.figure.hidden = measured.length === 0;
    if (this.figure.hidden) return;
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, sans-serif";
    const [low, high, ticks] = scale(measured);
    const names = ticks.map((tick) => label(tick, ticks[1] - ticks[0]));
    const left = 8 + Math.max(...names.map((name) => pen.measureText(name).width));
    const right = width - 10, top = 6, bottom = height - 18;
    const first = x[0], span = (x[x.length - 1] - first) || 1;
    const px = (value) => left + (value - first) / span * (right - left);
    const py = (value) => bottom - (value - low) / (high - low) * (bottom - top);
    pen.fillStyle = "#5d6675";
    pen.strokeStyle = "#e4e7ec";
    pen.lineWidth = 1;
    ticks.forEach((tick, i) => {
      pen.textAlign = "right";
      pen.fillText(names[i], left - 4, py(tick) + 4);
      pen.beginPath();
      pen.moveTo(left, py(tick));
      pen.lineTo(right, py(tick));
      pen.stroke();
    });
    pen.textAlign = "left";
    pen.fillText(number(first), left, height - 4);
    pen.textAlign = "right";
    pen.fillText(`${number(x[x.length - 1])} ${this.xName}`, right, height - 4);
    columns.forEach((values, i) => this._line(pen, x, values, px, py, this.lines[i].colour));
  }

  _line(pen, x, values, px, py, colour) {
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 1.3;
    pen.beginPath();
    const alone = values.filter((value) => value !== null).length === 1;
    let open = false;
    values.forEach((value, i) => {
      if (value === null) {
        open = open && this.seldom;
      } else if (open) {
        pen.lineTo(px(x[i]), py(value));
      } else {
        pen.moveTo(px(x[i]), py(value));
        open = true;
        if (alone || (!this.seldom && (i + 1 >= values.length || values[i + 1] === null))) {
          pen.fillRect(px(x[i]) - 1, py(value) - 1, 2, 2);
        }
      }
    });
    pen.stroke();
  }
}

/** Lower and upper end, and two to four round ticks within. */
function scale(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (high - low < 1e-9 * Math.max(1, Math.abs(high))) {
    const room = Math.abs(high) * 0.05 || 1;
    low -= room;
    high += room;
  }
  const room = 0.06 * (high - low), rough = (high - low) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * power).find((part) => part >= rough);
  if (low >= 0 && low < 0.3 * high) low = 0;
  else low -= room;
  high += room;
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high; at++) ticks.push(at * step);
  if (ticks.length < 2) ticks.push(...[low, high].filter((end) => !ticks.includes(end)));
  return [low, high, ticks.sort((a, b) => a - b)];
}

function label(value, step) {
  const digits = Math.max(0, Math.min(8, -Math.floor(Math.log10(Math.abs(step) || 1) + 1e-9)));
  return value.toFixed(digits);
}

/** A number in about three digits. */
function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1000 || value === 0) return value.toFixed(0);
  if (size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}
