(() => {
  const $ = id => document.getElementById(id), c = JSON.parse($('fg').textContent), t = c.t;
  const nf = new Intl.NumberFormat(c.lang), tf = new Intl.DateTimeFormat(c.lang, { timeStyle: 'medium' });
  const url = '/_floodgate/rooms/' + c.room + '/', accept = { headers: { accept: 'application/json' } };
  // The clock is the server's, carried on by a clock that the device's owner cannot set.
  let base = c.now - performance.now(), next = c.next, fails = 0, timer = 0, asked = 0, bar = 0, spoke = 0, told = '', gone = false;
  const now = () => base + performance.now();
  const put = (id, text) => { const e = $(id); if (e && e.textContent !== text) e.textContent = text; };
  const fill = (text, n, a) => text.replace('{n}', nf.format(n)).replace('{b}', nf.format(n)).replace('{a}', nf.format(a));
  const eta = e => {
    if (!e) return t.unknown;
    const a = Math.floor(e.low / 60), b = Math.ceil(e.high / 60);
    return b < 2 ? t.under : b >= 120 ? fill(t.hours, Math.ceil(b / 60)) : !a || a === b ? fill(t.upto, b) : fill(t.range, b, a);
  };
  const reload = ms => { if (!gone) { gone = true; clearTimeout(timer); setTimeout(() => location.reload(), ms); } };
  const later = ms => { clearTimeout(timer); next = ms; if (ms > 0 && !gone) timer = setTimeout(poll, ms * (.85 + Math.random() * .3)); };
  const enter = async () => {
    document.title = '● ' + t.turn;
    put('turn', t.turn);
    $('go').hidden = false;
    $('enter').focus();
    try { await fetch(url + 'pass', { method: 'POST', ...accept }); } catch {}
    reload(700);
  };
  const show = s => {
    base = s.now_ms - performance.now();
    c.starts = s.starts_at_ms;
    fails = 0;
    $('off').hidden = !s.degraded;
    $('since').hidden = false;
    put('seen', tf.format(s.now_ms));
    put('words', s.notice || '');
    $('notice').hidden = !s.notice;
    if (s.state === 'called' && !s.degraded) return enter();
    if (s.state !== c.state) return reload(Math.random() * (s.state === 'inside' ? 300 : 2000));
    if (!c.placed && !s.degraded && !['scheduled', 'sold_out', 'closed'].includes(s.state)) return reload(Math.random() * 2000);
    if (s.ahead != null && $('ahead')) {
      const n = nf.format(s.ahead), e = eta(s.eta_seconds), behind = s.behind || 0;
      put('ahead', n);
      put('behind', nf.format(behind));
      put('eta', e);
      bar = Math.max(bar, $('bar').value, 100 * behind / (s.ahead + behind + 1));
      $('bar').value = bar;
      document.title = n + ' · ' + t.title;
      if (e !== told && now() - spoke > 15000) { told = e; spoke = now(); put('say', t.ahead + ': ' + n + '. ' + t.eta + ': ' + e + '.'); }
    }
    later(s.next_poll_ms);
  };
  const poll = async () => {
    asked = performance.now();
    clearTimeout(timer);
    const cut = new AbortController(), limit = setTimeout(() => cut.abort(), 10000);
    let wait = 0;
    try {
      const r = await fetch(url + 'status', { ...accept, cache: 'no-store', signal: cut.signal });
      if (r.status === 401 || r.status === 404) return reload(2000 + Math.random() * 3000);
      if (r.ok) return show(await r.json());
      wait = 1000 * (parseInt(r.headers.get('retry-after')) || 0);
    } catch {} finally { clearTimeout(limit); }
    $('off').hidden = false;
    later(Math.max(wait / .85, Math.min(60000, 1000 * 2 ** ++fails)));
  };
  const back = () => { if (next > 0 && !gone && !document.hidden && performance.now() - asked > 1000) poll(); };
  document.addEventListener('visibilitychange', back);
  addEventListener('online', back);
  addEventListener('pageshow', e => { if (e.persisted) { gone = false; back(); } });
  if ($('count')) setInterval(() => {
    const s = Math.max(0, Math.ceil((c.starts - now()) / 1000)), two = n => String(n).padStart(2, '0');
    put('count', two(Math.floor(s / 3600)) + ':' + two(Math.floor(s / 60) % 60) + ':' + two(s % 60));
  }, 250);
  later(next);
})();
