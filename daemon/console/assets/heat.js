// Heat maps: where a model looked, drawn above a slice. Not where the blood is.

// colour is a ramp from nothing over red to yellow.
function colour(v) {
  const t = Math.min(Math.max(v, 0), 1);
  return [255, Math.round(230 * Math.max(0, (t - 0.35) / 0.65)), 40, Math.round(255 * Math.min(1, t * 1.15))];
}

// tint draws a map with the given strength, 0 to 1.
export function tint(pen, map, strength) {
  const small = new OffscreenCanvas(map.columns, map.rows), ink = small.getContext("2d");
  const picture = ink.createImageData(map.columns, map.rows);
  map.values.forEach((v, i) => picture.data.set(colour(v), 4 * i));
  ink.putImageData(picture, 0, 0);
  const [left, top, right, bottom] = map.box;
  pen.save();
  pen.globalAlpha = strength;
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small, left, top, right - left, bottom - top);
  pen.restore();
}
