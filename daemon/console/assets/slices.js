// Slices in Hounsfield units, as the device sends them: fetched once, the nearest first,
// and as many kept as fit.

const most = 160 * 2 ** 20; // bytes

export class Slices {
  constructor(study) {
    this.study = study;
    this.kept = new Map(); // id -> Promise of a slice; the one used last at the end
    this.bytes = 0;
    this.busy = 0;
    this.queue = [];
  }

  // get gives a slice: { rows, columns, aspect, sides, hu }.
  get(id) {
    let slice = this.kept.get(id);
    if (slice) {
      this.kept.delete(id);
    } else {
      slice = this.fetch(id);
      slice.then((s) => this.keep(id, s.hu.byteLength), () => this.kept.delete(id));
    }
    this.kept.set(id, slice);
    return slice;
  }

  // ahead fetches slices that may be asked for next, two at a time.
  ahead(ids) {
    this.queue = ids.filter((id) => !this.kept.has(id));
    this.next();
  }

  next() {
    while (this.busy < 2 && this.queue.length > 0 && this.bytes < most * 0.8) {
      this.busy++;
      this.get(this.queue.shift()).catch(() => {}).finally(() => { this.busy--; this.next(); });
    }
  }

  keep(id, bytes) {
    this.bytes += bytes;
    for (const [old, slice] of this.kept) {
      if (this.bytes <= most || old === id) return;
      this.kept.delete(old);
      slice.then((s) => { this.bytes -= s.hu.byteLength; }, () => {});
    }
  }

  async fetch(id) {
    const answer = await fetch(`/study/${this.study}/slice/${id}/hu`, { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const head = JSON.parse(answer.headers.get("X-Slice"));
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return { ...head, hu: undo(bytes, head.rows, head.columns) };
  }
}

// undo is the inverse of the device's encoding: differences to the left neighbour, of the
// first in a row to the one above, low bytes before high bytes.
export function undo(bytes, rows, columns) {
  const n = rows * columns, hu = new Int16Array(n);
  if (bytes.length !== 2 * n) throw new Error("the slice did not arrive whole");
  for (let y = 0, i = 0; y < rows; y++) {
    let v = y > 0 ? hu[i - columns] : 0;
    for (let x = 0; x < columns; x++, i++) {
      v = (v + (bytes[i] | (bytes[n + i] << 8))) & 0xffff;
      hu[i] = v;
      v = hu[i];
    }
  }
  return hu;
}
