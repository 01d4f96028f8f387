// Draws a text as a QR code (ISO/IEC 18004): bytes, error correction level L, versions 1 to 22.
"use strict";
const tacitQr = (() => {
  // Of each version: error correction bytes of a block, and blocks of each kind with their data bytes.
  const VERSIONS = [
    [7, 1, 19], [10, 1, 34], [15, 1, 55], [20, 1, 80], [26, 1, 108], [18, 2, 68], [20, 2, 78], [24, 2, 97],
    [30, 2, 116], [18, 2, 68, 2, 69], [20, 4, 81], [24, 2, 92, 2, 93], [26, 4, 107], [30, 3, 115, 1, 116],
    [22, 5, 87, 1, 88], [24, 5, 98, 1, 99], [28, 1, 107, 5, 108], [30, 5, 120, 1, 121], [28, 3, 113, 4, 114],
    [28, 3, 107, 5, 108], [28, 4, 116, 4, 117], [28, 2, 111, 7, 112],
  ];
  // Middles of the alignment patterns.
  const MIDDLES = [
    [], [6, 18], [6, 22], [6, 26], [6, 30], [6, 34], [6, 22, 38], [6, 24, 42], [6, 26, 46], [6, 28, 50], [6, 30, 54],
    [6, 32, 58], [6, 34, 62], [6, 26, 46, 66], [6, 26, 48, 70], [6, 26, 50, 74], [6, 30, 54, 78], [6, 30, 56, 82],
    [6, 30, 58, 86], [6, 34, 62, 90], [6, 28, 50, 72, 94], [6, 26, 50, 74, 98],
  ];
  const MASKS = [
    (r, c) => (r + c) % 2, (r) => r % 2, (r, c) => c % 3, (r, c) => (r + c) % 3,
    (r, c) => ((r >> 1) + Math.floor(c / 3)) % 2, (r, c) => ((r * c) % 2) + ((r * c) % 3),
    (r, c) => (((r * c) % 2) + ((r * c) % 3)) % 2, (r, c) => (((r + c) % 2) + ((r * c) % 3)) % 2,
  ];

  const EXP = new Uint8Array(510);
  const LOG = new Uint8Array(256);
  for (let i = 0, x = 1; i < 255; i += 1) {
    EXP[i] = EXP[i + 255] = x;
    LOG[x] = i;
    x = (x << 1) ^ (x & 128 ? 0x11d : 0);
  }
  const times = (a, b) => (a && b ? EXP[LOG[a] + LOG[b]] : 0);

  function generator(degree) {
    let poly = [1];
    for (let i = 0; i < degree; i += 1) {
      const next = new Array(poly.length + 1).fill(0);
      poly.forEach((factor, at) => {
        next[at] ^= factor;
        next[at + 1] ^= times(factor, EXP[i]);
      });
      poly = next;
    }
    return poly.slice(1);
  }

  function correction(data, degree) {
    const poly = generator(degree);
    const rest = new Array(degree).fill(0);
    for (const byte of data) {
      const factor = byte ^ rest.shift();
      rest.push(0);
      poly.forEach((coefficient, at) => { rest[at] ^= times(coefficient, factor); });
    }
    return rest;
  }

  function blockLengths([, ...kinds]) {
    const lengths = [];
    for (let i = 0; i < kinds.length; i += 2) lengths.push(...new Array(kinds[i]).fill(kinds[i + 1]));
    return lengths;
  }

  function codewords(bytes, version) {
    const lengths = blockLengths(VERSIONS[version - 1]);
    const room = lengths.reduce((sum, length) => sum + length, 0);
    const bits = [];
    const put = (value, count) => { for (let i = count - 1; i >= 0; i -= 1) bits.push((value >> i) & 1); };
    put(4, 4);
    put(bytes.length, version < 10 ? 8 : 16);
    bytes.forEach((byte) => put(byte, 8));
    put(0, Math.min(4, room * 8 - bits.length));
    while (bits.length % 8) bits.push(0);
    const data = [];
    for (let i = 0; i < bits.length; i += 8) data.push(parseInt(bits.slice(i, i + 8).join(""), 2));
    for (let pad = 0xec; data.length < room; pad ^= 0xec ^ 0x11) data.push(pad);
    let from = 0;
    const blocks = lengths.map((length) => data.slice(from, (from += length)));
    const corrections = blocks.map((block) => correction(block, VERSIONS[version - 1][0]));
    const woven = [];
    for (const of of [blocks, corrections]) {
      const longest = Math.max(...of.map((block) => block.length));
      for (let i = 0; i < longest; i += 1) of.forEach((block) => { if (i < block.length) woven.push(block[i]); });
    }
    return woven;
  }

  // What follows `value` so that the whole is divisible by `poly`.
  function check(value, poly, degree) {
    let rest = value << degree;
    for (let i = 31 - Math.clz32(rest); rest && i >= degree; i = 31 - Math.clz32(rest)) rest ^= poly << (i - degree);
    return rest;
  }

  function frame(version) {
    const size = version * 4 + 17;
    const dark = Array.from({ length: size }, () => new Array(size).fill(0));
    const fixed = Array.from({ length: size }, () => new Array(size).fill(false));
    const set = (row, column, value) => {
      if (row < 0 || column < 0 || row >= size || column >= size) return;
      dark[row][column] = value ? 1 : 0;
      fixed[row][column] = true;
    };
    const rings = (row, column, reach, isDark) => {
      for (let r = -reach; r <= reach; r += 1) {
        for (let c = -reach; c <= reach; c += 1) set(row + r, column + c, isDark(Math.max(Math.abs(r), Math.abs(c))));
      }
    };
    for (let i = 0; i < size; i += 1) {
      set(6, i, i % 2 === 0);
      set(i, 6, i % 2 === 0);
    }
    for (const [row, column] of [[3, 3], [3, size - 4], [size - 4, 3]]) rings(row, column, 4, (ring) => ring !== 2 && ring !== 4);
    const middles = MIDDLES[version - 1];
    const last = middles[middles.length - 1];
    for (const row of middles) {
      for (const column of middles) {
        const isCorner = (row === 6 && column === 6) || (row === 6 && column === last) || (row === last && column === 6);
        if (!isCorner) rings(row, column, 2, (ring) => ring !== 1);
      }
    }
    if (version >= 7) {
      const bits = (version << 12) | check(version, 0x1f25, 12);
      for (let i = 0; i < 18; i += 1) {
        const [far, near] = [size - 11 + (i % 3), Math.floor(i / 3)];
        set(far, near, (bits >> i) & 1);
        set(near, far, (bits >> i) & 1);
      }
    }
    return { size, dark, fixed, set };
  }

  function putFormat({ size, set }, mask) {
    const value = (1 << 3) | mask;
    const bits = ((value << 10) | check(value, 0x537, 10)) ^ 0x5412;
    const bit = (i) => (bits >> i) & 1;
    for (let i = 0; i <= 5; i += 1) set(i, 8, bit(i));
    set(7, 8, bit(6));
    set(8, 8, bit(7));
    set(8, 7, bit(8));
    for (let i = 9; i < 15; i += 1) set(8, 14 - i, bit(i));
    for (let i = 0; i < 8; i += 1) set(8, size - 1 - i, bit(i));
    for (let i = 8; i < 15; i += 1) set(size - 15 + i, 8, bit(i));
    set(size - 8, 8, 1);
  }

  function putData({ size, dark, fixed }, words) {
    let at = 0;
    let up = true;
    for (let right = size - 1; right > 0; right -= 2) {
      if (right === 6) right = 5;
      for (let step = 0; step < size; step += 1) {
        const row = up ? size - 1 - step : step;
        for (const column of [right, right - 1]) {
          if (fixed[row][column]) continue;
          dark[row][column] = at < words.length * 8 ? (words[at >> 3] >> (7 - (at & 7))) & 1 : 0;
          at += 1;
        }
      }
      up = !up;
    }
  }

  // How hard a code is to read: runs, squares, and an uneven share of dark.
  function penalty({ size, dark }) {
    let points = 0;
    let all = 0;
    const runs = (of) => {
      for (let i = 0; i < size; i += 1) {
        for (let j = 1, run = 1; j <= size; j += 1) {
          if (j < size && of(i, j) === of(i, j - 1)) run += 1;
          else {
            if (run >= 5) points += run - 2;
            run = 1;
          }
        }
      }
    };
    runs((i, j) => dark[i][j]);
    runs((i, j) => dark[j][i]);
    for (let r = 0; r < size; r += 1) {
      for (let c = 0; c < size; c += 1) {
        all += dark[r][c];
        if (r && c && dark[r][c] === dark[r - 1][c] && dark[r][c] === dark[r][c - 1] && dark[r][c] === dark[r - 1][c - 1]) points += 3;
      }
    }
    return points + 10 * Math.floor(Math.abs((all * 20) / (size * size) - 10));
  }

  function modules(text) {
    const bytes = new TextEncoder().encode(text);
    const fits = (version) => {
      const room = blockLengths(VERSIONS[version - 1]).reduce((sum, length) => sum + length, 0);
      return bytes.length + (version < 10 ? 2 : 3) <= room;
    };
    const version = VERSIONS.findIndex((_, index) => fits(index + 1)) + 1;
    if (!version) throw new Error("The text is too long for a QR code.");
    const words = codewords(bytes, version);
    let best = null;
    MASKS.forEach((mask, number) => {
      const code = frame(version);
      putFormat(code, number);
      putData(code, words);
      for (let r = 0; r < code.size; r += 1) {
        for (let c = 0; c < code.size; c += 1) if (!code.fixed[r][c] && mask(r, c) === 0) code.dark[r][c] ^= 1;
      }
      const points = penalty(code);
      if (!best || points < best.points) best = { points, dark: code.dark };
    });
    return best.dark;
  }

  function svg(text) {
    const dark = modules(text);
    const make = (kind, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      return element;
    };
    const size = dark.length + 8;
    const path = dark.flatMap((row, r) => row.map((isDark, c) => (isDark ? `M${c + 4} ${r + 4}h1v1h-1z` : ""))).join("");
    const drawing = make("svg", { viewBox: `0 0 ${size} ${size}`, "shape-rendering": "crispEdges" });
    drawing.append(make("rect", { width: size, height: size, fill: "#fff" }), make("path", { d: path, fill: "#000" }));
    return drawing;
  }

  return { modules, svg };
})();
