// The noise models of keras_dae/noise.py. Pixels are Float32Array in [0, 1].

/**
 * Name -> label, meaning of the strength, and the function that computes a noisy value from a clean one, the strength,
 * a draw from N(0, 1) and a draw from U(0, 1).
 */
export const NOISES = {
  gaussian: {
    label: "Gaussian",
    meaning: "Standard deviation. Black is 0, white is 1.",
    noisy: (clean, factor, normal) => clean + factor * normal,
  },
  salt_and_pepper: {
    label: "Salt & pepper",
    meaning: "Fraction of the pixels that become white or black.",
    noisy: (clean, factor, normal, uniform) => (uniform < factor / 2 ? 1 : uniform < factor ? 0 : clean),
  },
  speckle: {
    label: "Speckle",
    meaning: "Standard deviation at white. Black stays black.",
    noisy: (clean, factor, normal) => clean + factor * clean * normal,
  },
};

/**
 * Return `{normal, uniform}`: for every pixel a draw from N(0, 1) and one from U(0, 1). A seed always gives the same.
 *
 * The draws are separate from `addNoise`, so the noise stays the same while the strength or the drawing changes.
 */
export function draw(count, seed) {
  const random = generator(seed);
  const normal = new Float32Array(count);
  const uniform = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - random())); // Box & Muller 1958
    normal[i] = radius * Math.cos(2 * Math.PI * random());
    uniform[i] = random();
  }
  return { normal, uniform };
}

/** Return noisy pixels, clipped to [0, 1]. */
export function addNoise(clean, name, factor, { normal, uniform }) {
  const { noisy } = NOISES[name];
  return clean.map((value, i) => Math.min(1, Math.max(0, noisy(value, factor, normal[i], uniform[i]))));
}

/** Return a function that draws from [0, 1) with 32 bits: sfc32, from Doty-Humphrey's PractRand. */
function generator(seed) {
  let [a, b, c, counter] = [0, seed | 0, 0, 1];
  const next = () => {
    const drawn = (a + b + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + drawn) | 0;
    return (drawn >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next(); // until the seed has affected every bit
  return next;
}
