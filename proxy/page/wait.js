(() => {
  const $ = id => document.getElementById(id), t = JSON.parse($('fg').textContent), lang = document.documentElement.lang;
  const nf = new Intl.NumberFormat(lang), tf = new Intl.DateTimeFormat(lang, { timeStyle: 'medium' });
  const url = '/_floodgate/rooms/' + t.room + '/', ask = { headers: { accept: 'application/json' }, cache: 'no-store' };
  const name = document.title.slice(document.title.indexOf(' · '));
  // The clock is the server's, carried on by a clock that the device's owner cannot set.
  let base = $('bar').dataset.now - performance.now(), next = +$('bar').dataset.next, state = t.state, until = 0, sure = 0, told = '', spoke = -1e9, mark = 0;
  let fails = 0, timer = 0, asked = performance.now(), gone = false, stream = null, live = false, tries = 0, sound = null;
  const now = () => base + performance.now(), some = ms => Math.random() * ms;
  const put = (id, text) => { const e = $(id); if (e && e.textContent !== text) e.textContent = text; };
  const hide = (id, no) => { const e = $(id); if (e) e.hidden = no; };
  const say = text => { spoke = now(); put('say', text); };
  const fill = (text, n, a) => text.replace(/{[nb]}/, nf.format(n)).replace('{a}', nf.format(a));
  const eta = e => {
    if (!e) return t.eta[0];
    const a = Math.floor(e.low / 60), b = Math.ceil(e.high / 60);
    return b < 2 ? t.eta[1] : b >= 120 ? fill(t.eta[4], Math.ceil(b / 60)) : !a || a === b ? fill(t.eta[2], b) : fill(t.eta[3], b, a);
  };
  const reload = ms => { if (!gone) { gone = true; clearTimeout(timer); close(); setTimeout(() => location.reload(), ms); } };
  const later = ms => { clearTimeout(timer); next = ms; if (ms > 0 && !gone) timer = setTimeout(poll, ms * (.85 + some(.3))); };
  const ring = () => {
    if ($('tell')?.checked) try {
      navigator.vibrate?.(500);
      sound ||= new AudioContext();
      const beep = sound.createOscillator();
      beep.connect(sound.destination);
      beep.start();
      beep.stop(sound.currentTime + .4);
    } catch {}
  };
  const become = s => { state = s; put('head', t.s[s][0]); put('text', t.s[s][1]); document.title = t.s[s][0] + name; };
  // The place inside is taken at once, even in a hidden tab: the turn cannot run out there. It goes on when somebody looks.
  const turn = async s => {
    if (!until) {
      become('called');
      document.title = '● ' + document.title;
      put('turn', t.s.called[0]);
      put('what', t.within);
      hide('line', true);
      hide('go');
      $('enter').focus();
      ring();
    }
    until = sure || s.claim_by_ms || now() + 6e4;
    try {
      const r = sure ? 0 : await fetch(url + 'pass', { method: 'POST', ...ask });
      if (r.ok) until = sure = (await r.json()).expires_at_ms;
      // Claimed in another browser: the page there says so.
      if (r.status === 403) return reload(700);
    } catch {}
    sure && !document.hidden ? reload(700) : later(s.next_poll_ms || 1000);
  };
  const show = s => {
    const end = !s.next_poll_ms;
    base = s.now_ms - performance.now();
    t.starts = s.starts_at_ms;
    fails = 0;
    hide('off', !s.degraded);
    hide('since');
    put('seen', tf.format(s.now_ms));
    put('words', s.notice || '');
    hide('notice', !s.notice);
    if ((s.state === 'called' || s.state === 'inside') && !s.degraded) return turn(s);
    if (s.state !== state) {
      if (!t.s[s.state]) return reload(some(3000));
      until = sure = 0;
      hide('go', true);
      become(s.state);
      put(end ? 'turn' : 'say', t.s[state][0]);
    }
    if (!t.placed && !end && !s.degraded && state !== 'scheduled') return reload(some(2000));
    hide('line', s.ahead == null);
    put('chance', t.chance[s.chance] || '');
    if (s.place) { hide('drawn'); put('place', nf.format(Math.floor(s.place / 8))); }
    if (s.ahead != null) {
      const behind = s.behind || 0, e = eta(s.eta_seconds), n = nf.format(s.ahead);
      put('ahead', n);
      put('behind', nf.format(behind));
      put('eta', e);
      $('bar').value = Math.max($('bar').value, 100 * behind / (s.ahead + behind + 1));
      document.title = n + name;
      if (e !== told && now() - spoke > 15000) { told = e; say($('line').innerText); }
    }
    if (end) { hide('live', true); close(); }
    // While the stream speaks, asking is only for the case that it went silent.
    later(live && !end ? Math.max(s.next_poll_ms, 45000) : s.next_poll_ms);
  };
  const poll = async () => {
    asked = performance.now();
    clearTimeout(timer);
    let wait = 0;
    try {
      const r = await fetch(url + 'status', { ...ask, signal: AbortSignal.timeout?.(10000) });
      if (r.status === 401 || r.status === 404) return reload(2000 + some(3000));
      if (r.ok) return show(await r.json());
      wait = 1000 * parseInt(r.headers.get('retry-after')) || 0;
    } catch {}
    hide('off');
    later(Math.max(wait / .85, Math.min(60000, 1000 * 2 ** ++fails)));
  };
  const close = () => { stream?.close(); stream = live = null; };
  const open = () => {
    if (stream || gone || !next) return;
    tabs?.postMessage(0);
    stream = new EventSource(url + 'events');
    stream.addEventListener('status', e => { live = true; tries = 0; show(JSON.parse(e.data)); });
    stream.onerror = () => {
      // Asking goes on at once; the stream is tried again, later and later.
      if (live) later(1 + some(1000));
      close();
      setTimeout(open, Math.min(300000, 15000 * 2 ** tries++) * (.85 + some(.3)));
    };
  };
  // A browser has few connections for one host: a tab in front takes the stream over from tabs behind it.
  const tabs = window.BroadcastChannel && new BroadcastChannel(url);
  if (tabs) tabs.onmessage = () => { if (document.hidden && stream) { close(); later(1000); } };
  const back = () => {
    if (gone || document.hidden || !next) return;
    if (sure) return reload(0);
    open();
    performance.now() - asked > 1000 ? poll() : later(1000);
  };
  document.onvisibilitychange = window.ononline = window.onpageshow = back;
  window.onpagehide = close;
  window.onoffline = () => hide('off');
  setInterval(() => {
    const early = state === 'lobby' || state === 'scheduled', two = n => String(Math.floor(n)).padStart(2, '0');
    const s = Math.max(0, Math.ceil(((until || t.starts) - now()) / 1000));
    hide('timer', !until && !(early && s));
    put('clock', two(s / 3600) + ':' + two(s / 60 % 60) + ':' + two(s % 60));
    if ((until || early) && s !== mark && (s === 60 || s === 30)) { say(t.left.replace('{n}', s)); if (s < 60) ring(); }
    $('timer').classList.toggle('warn', until && s < 31);
    mark = s;
  }, 250);
  if ($('tell')) {
    hide('bell');
    try { $('tell').checked = sessionStorage.fg_tell; } catch {}
    $('tell').onchange = () => { ring(); try { sessionStorage.fg_tell = $('tell').checked ? 1 : ''; } catch {} };
  }
  later(next);
  open();
})();
