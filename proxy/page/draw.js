(() => {
  const $ = id => document.getElementById(id), t = JSON.parse($('fg').textContent), nf = new Intl.NumberFormat(document.documentElement.lang);
  const bytes = text => Uint8Array.from(text.match(/../g), pair => parseInt(pair, 16));
  const hex = bytes => Array.from(bytes, b => b.toString(16).padStart(2, '0')).join('');
  const join = (a, b) => Uint8Array.from([...a, ...b]);
  const hash = async bytes => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const keyed = async secret => {
    const key = await crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
    return async bytes => new Uint8Array(await crypto.subtle.sign('HMAC', key, bytes));
  };
  // The permutation of docs/draw.md: a Feistel network of four rounds, walked until the result is below the count.
  const place = async (seed, index, count) => {
    if (count < 2) return index;
    const half = Math.ceil((32 - Math.clz32(count - 1)) / 2), size = 2 ** half, mac = await keyed(seed);
    let value = index;
    do {
      let left = Math.floor(value / size), right = value % size;
      for (let round = 0; round < 4; round++) {
        const f = await mac(Uint8Array.of(round, right >>> 24, right >>> 16, right >>> 8, right));
        [left, right] = [right, left ^ (((f[0] << 24 | f[1] << 16 | f[2] << 8 | f[3]) >>> 0) % size)];
      }
      value = left * size + right;
    } while (value >= count);
    return value;
  };
  const fact = (name, value, good) => {
    const row = document.createElement('div'), dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = name;
    dd.textContent = (good === undefined ? '' : good ? '✓ ' : '✗ ') + value;
    row.append(dt, dd);
    $('facts').append(row);
    return good;
  };
  const say = (text, bad) => { $('result').hidden = false; $('result').textContent = text; $('result').classList.toggle('warn', !!bad); };
  const check = async () => {
    $('facts').replaceChildren();
    const answer = await fetch('../draw', { headers: { accept: 'application/json' }, cache: 'no-store' });
    const d = answer.ok ? await answer.json() : {};
    if (d.phase !== 'drawn') return say(t.not_yet);
    const secret = bytes(d.secret), root = bytes(d.root), kind = d.beacon.kind;
    const beacon = kind === 'entrants' ? root : kind === 'file' ? bytes(d.beacon.signed.value) : [];
    const commitment = hex(await hash(secret)), seed = hex(await (await keyed(secret))(join(root, beacon)));
    const good = [fact('SHA-256(secret) = commitment', commitment, commitment === d.commitment), fact('HMAC-SHA-256(secret, root‖beacon) = seed', seed, seed === d.seed)];
    if (!good.every(Boolean)) return say(t.bad, true);
    const number = parseInt($('number').value);
    if (!(number >= 1 && number <= d.count)) return say(t.outside);
    const drawn = 1 + await place(bytes(d.seed), number - 1, d.count);
    $('result').dataset.place = drawn;
    if (!await own(d, number)) return say(t.bad, true);
    say(t.good.replace('{n}', nf.format(number)).replace('{p}', nf.format(drawn)).replace('{c}', nf.format(d.count)));
  };
  // The record of the visitor's own number, from what this browser knows, up to the root: see docs/draw.md.
  const own = async (d, number) => {
    const answer = number === t.own && await fetch('../draw/proof', { headers: { accept: 'application/json' }, cache: 'no-store' });
    if (!answer.ok) return true;
    const p = await answer.json(), path = p.path.map(bytes);
    if (p.number !== number) return true;
    if (!/[^0]/.test(p.leaf)) { fact(t.record, t.lost); return true; }
    const lines = ['floodgate-entrant-1', t.room, p.visitor, ...(p.nonce ? [p.nonce] : [])];
    const record = await hash(new TextEncoder().encode(lines.join('\n')));
    let node = await hash(join([0], record)), index = number - 1, width = d.count;
    for (; width > 1; index = Math.floor(index / 2), width = Math.ceil(width / 2)) {
      if (index % 2) node = await hash(join([1], join(path.shift(), node)));
      else if (index + 1 < width) node = await hash(join([1], join(node, path.shift())));
    }
    let made = [];
    try { made = (localStorage['fg_nonce:' + t.room] || '').split(' ').filter(Boolean); } catch {}
    // A browser that made values must find one of them; elsewhere the value can only be shown.
    const mine = d.beacon.kind !== 'entrants' || fact(t.nonce, p.nonce || '–', made.length ? made.includes(p.nonce) : undefined) !== false;
    return [mine, fact(t.record, hex(record), hex(record) === p.leaf && hex(node) === d.root)].every(Boolean);
  };
  $('origin').textContent = location.origin;
  if (!globalThis.crypto?.subtle) return say(t.cannot);
  $('ask').hidden = false;
  $('ask').onsubmit = e => { e.preventDefault(); check().catch(() => say(t.bad, true)); };
  if ($('number').value) check().catch(() => say(t.bad, true));
})();
