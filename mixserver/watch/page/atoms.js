"use strict";
/* The atoms of one frame in 3D, coloured by lambda. The bytes of a frame are described in
   packed_frame.py. */

const BULK_COLOUR = 0xb9bfc8;
const SEED_COLOUR = 0x17191f;
const FAR = 1e4;  // Å
const STOPS = [[0xd9, 0xbf, 0xe3], [0x7a, 0x51, 0x95], [0xc2, 0x36, 0x2f]];
/* Radii of spheres for lambda = 0, up to 1/4, 1/2, 3/4 and 1, as shares of half the distance of
   neighbours: the core is seen through what is around it. */
const SIZES = [0.32, 0.42, 0.54, 0.66, 0.8];
const SYMBOLS = ("X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu " +
  "Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm " +
  "Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np " +
  "Pu Am Cm Bk Cf Es Fm Md No Lr").split(" ");

/** Parse the bytes of a frame: {about, count, xyz, index, number, lambda, seed}. */
function parseFrame(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const n = about.drawn;
  let at = 4 + size;
  const take = (Kind, count) => {
    const found = new Kind(buffer, at, count);
    at += found.byteLength;
    return found;
  };
  return {
    about, count: n, xyz: take(Float32Array, 3 * n), index: take(Uint32Array, n),
    number: take(Uint8Array, n), lambda: take(Uint8Array, n), seed: take(Uint8Array, n),
  };
}

/** The colour of lambda, 0 to 255. */
function lambdaColour(lambda) {
  const place = 2 * lambda / 255, low = Math.min(1, Math.floor(place)), part = place - low;
  const mix = (k) => Math.round(STOPS[low][k] + part * (STOPS[low + 1][k] - STOPS[low][k]));
  return (mix(0) << 16) | (mix(1) << 8) | mix(2);
}

/** Half the usual distance of nearest neighbours, Å: what the sizes of spheres are taken from. */
function typicalRadius(frame) {
  const [a, b, c] = frame.about.cell;
  const volume = Math.abs(a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) +
    a[2] * (b[0] * c[1] - b[1] * c[0]));
  return Math.min(1.8, Math.max(0.7, 0.5 * Math.cbrt(volume / Math.max(1, frame.about.atoms))));
}

class AtomsView {
  constructor(element, onPick) {
    this.element = element;
    this.onPick = onPick;
    this.viewer = null;
    this.frame = null;
    this.model = null;
    this.bulk = true;
    this.works = true;
  }

  /** Draw a frame; with other atoms than before the picture is turned to show all of them. */
  show(frame, cut) {
    if (!this._start()) return;
    const same = this.model && this.frame && this.frame.count === frame.count &&
      this.frame.number.every((number, i) => number === frame.number[i]);
    this.frame = frame;
    if (same) {
      this.model.selectedAtoms({}).forEach((atom, i) => this._set(atom, i));
    } else {
      this.viewer.removeAllModels();
      this.model = this.viewer.addModel();
      const atoms = [];
      for (let i = 0; i < frame.count; i++) {
        atoms.push(this._set({elem: SYMBOLS[frame.number[i]] || "X", bonds: [], bondOrder: []}, i));
      }
      this.model.addAtoms(atoms);
      this.model.setClickable({}, true, (atom) => this.onPick(this._words(atom.serial)));
    }
    this._box();
    this._style();
    if (!same) {
      this.viewer.zoomTo();
      this.viewer.rotate(-78, "x");
      this.viewer.rotate(20, "z");
      this.viewer.zoom(frame.about.drawn < frame.about.atoms ? 2.6 : 1.7);
    }
    this.cutOpen(cut);
    this.element.dataset.drawn = frame.about.label;
  }

  /** Show or hide the atoms with lambda = 0. */
  showBulk(shown) {
    this.bulk = shown;
    if (!this.frame || !this.viewer) return;
    this._style();
    this.viewer.render();
  }

  /** Leave out the half in front, or show all. */
  cutOpen(cut) {
    if (!this.viewer) return;
    this.viewer.setSlab(cut ? 0 : -FAR, FAR);
    this.viewer.render();
  }

  resize() {
    if (this.viewer) this.viewer.resize();
  }

  _start() {
    if (this.viewer || !this.works) return this.works;
    try {
      this.viewer = $3Dmol.createViewer(this.element, {
        backgroundColor: "white", orthographic: true, disableFog: true, antialias: true,
      });
    } catch (error) {
      this.viewer = null;
    }
    if (!this.viewer) {
      this.works = false;
      this.element.textContent = "This browser cannot draw in 3D (it has no WebGL).";
    }
    return this.works;
  }

  _set(atom, i) {
    const {xyz} = this.frame;
    atom.x = xyz[3 * i];
    atom.y = xyz[3 * i + 1];
    atom.z = xyz[3 * i + 2];
    atom.serial = i;
    return atom;
  }

  _style() {
    const frame = this.frame, known = frame.about.lambda, radius = typicalRadius(frame);
    const size = (i) => !known || frame.seed[i] ? SIZES.length - 1 :
      Math.ceil(frame.lambda[i] / 255 * (SIZES.length - 1));
    const colour = ({serial: i}) => known && frame.seed[i] ? SEED_COLOUR :
      known && frame.lambda[i] ? lambdaColour(frame.lambda[i]) : BULK_COLOUR;
    SIZES.forEach((share, at) => {
      const sphere = {radius: share * radius, colorfunc: colour};
      const shown = at > 0 || this.bulk;
      this.model.setStyle({predicate: (atom) => size(atom.serial) === at}, shown ? {sphere} : {});
    });
  }

  _box() {
    const {cell} = this.frame.about;
    this.viewer.removeAllShapes();
    const corner = (i, j, k) => {
      const at = (axis) => (i - 0.5) * cell[0][axis] + (j - 0.5) * cell[1][axis] +
        (k - 0.5) * cell[2][axis];
      return {x: at(0), y: at(1), z: at(2)};
    };
    for (let axis = 0; axis < 3; axis++) {
      for (let other = 0; other < 4; other++) {
        const from = [other & 1, other >> 1];
        from.splice(axis, 0, 0);
        const to = from.slice();
        to[axis] = 1;
        this.viewer.addLine({start: corner(...from), end: corner(...to), color: "#8a93a1"});
      }
    }
  }

  _words(i) {
    const {frame} = this;
    const name = `${SYMBOLS[frame.number[i]] || "?"} ${frame.index[i]}`;
    if (!frame.about.lambda) return name;
    const lambda = (frame.lambda[i] / 255).toFixed(2);
    return `atom ${name}: λ ${lambda}${frame.seed[i] ? ", a seed" : ""}`;
  }
}
