(() => {
  const t = JSON.parse(document.getElementById('fg').textContent), ask = document.getElementById('ask'), field = document.getElementById('nonce');
  const made = Array.from(crypto.getRandomValues(new Uint8Array(16)), b => b.toString(16).padStart(2, '0')).join('');
  // What this browser has thrown in: the page that checks the draw looks here. Several tabs are several tries.
  const keep = nonce => {
    try {
      const key = 'fg_nonce:' + t.room;
      localStorage[key] = [...(localStorage[key] || '').split(' ').filter(Boolean).slice(-7), nonce].join(' ');
    } catch {}
  };
  field.value = made;
  ask.onsubmit = () => keep(field.value);
  if (t.go) {
    keep(made);
    location.replace(t.to + made);
  }
})();
