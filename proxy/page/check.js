(async () => {
  const c = JSON.parse(document.getElementById('fg').textContent), bar = document.getElementById('bar'), text = new TextEncoder();
  const started = performance.now(), spent = () => performance.now() - started;
  const go = answer => location.replace(c.to + c.challenge + '.' + answer);
  const whole = c.bits >> 3, rest = c.bits & 7;
  const good = hash => {
    const b = new Uint8Array(hash);
    for (let i = 0; i < whole; i++) if (b[i]) return false;
    return !rest || !(b[whole] >> 8 - rest);
  };
  const show = part => { if (part > bar.value) bar.value = part; };
  // Without a secure context there is no WebCrypto: then waiting is enough, as it is without JavaScript.
  if (globalThis.crypto && crypto.subtle) {
    for (let n = 0; spent() < c.wait; n += 256) {
      const hashes = await Promise.all(Array.from({ length: 256 }, (_, i) => crypto.subtle.digest('SHA-256', text.encode(c.challenge + '.' + (n + i)))));
      const hit = hashes.findIndex(good);
      if (hit >= 0) return go(n + hit);
      show(1 - Math.exp(-n / 2 ** c.bits));
    }
  }
  setInterval(() => show(spent() / c.wait), 250);
  setTimeout(() => go('wait'), Math.max(0, c.wait - spent()) + 500);
})();
