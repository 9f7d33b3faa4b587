// The desk's own script. Everything works without it; it only makes things smoother.
'use strict';
(() => {
  const cookie = (name, value) => { document.cookie = `${name}=${value}; Path=/; SameSite=Lax; Max-Age=31536000`; };

  // The reader's zone, for the times that the server writes. The first visit loads the page again, once.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
  const known = document.cookie.split('; ').find((pair) => pair.startsWith('leadlane_zone='));
  if (!known || decodeURIComponent(known.split('=')[1]) !== zone) {
    cookie('leadlane_zone', encodeURIComponent(zone));
    if (document.querySelector('time') && !sessionStorage.getItem('zone')) {
      sessionStorage.setItem('zone', zone);
      location.reload();
    }
  }

  const on = (type, selector, does) => document.addEventListener(type, (event) => {
    const found = event.target.closest && event.target.closest(selector);
    if (found) does(found, event);
  });

  // The form of light and dark comes back to where it stands.
  on('submit', 'form[action="/theme"]', (form) => {
    const back = document.createElement('input');
    back.type = 'hidden';
    back.name = 'back';
    back.value = location.pathname + location.search;
    form.append(back);
  });

  // Copy buttons.
  const ready = (root) => root.querySelectorAll('[data-copy][hidden]').forEach((button) => { button.hidden = !navigator.clipboard; });
  ready(document);
  document.addEventListener('htmx:load', (event) => ready(event.detail.elt));
  on('click', '[data-copy]', (button) => {
    navigator.clipboard.writeText(button.dataset.copy).then(() => { button.lastChild.textContent = 'Copied'; });
  });

  // A file goes into its field, where it can be read before it is sent.
  document.querySelectorAll('[data-file]').forEach((choice) => { choice.hidden = false; });
  on('change', '[data-file]', async (choice, { target }) => {
    const field = document.getElementById(choice.dataset.file);
    field.value = await target.files[0].text();
    target.value = '';
    field.focus();
  });

  // What follows by itself waits while somebody is at work in it, and while nobody looks.
  document.addEventListener('htmx:beforeRequest', (event) => {
    const live = event.detail.elt;
    if (live.id !== 'live') return;
    const busy = live.contains(document.activeElement) || live.querySelector('details[open], input:checked');
    if (document.hidden || busy) event.preventDefault();
  });

  // `/` opens the palette: what the search finds, as one types. On the search's own page it goes to its field.
  const palette = () => {
    const own = document.getElementById('pal');
    if (own && !own.closest('dialog')) return own.select();
    let dialog = own && own.closest('dialog');
    if (!dialog) {
      dialog = document.createElement('dialog');
      dialog.className = 'palette';
      dialog.setAttribute('aria-label', 'Find');
      dialog.innerHTML = `<form class="find" method="get" action="/search"><label class="vh" for="pal">Find a lead, rule, lane or page</label>
        <input id="pal" name="q" type="search" autocomplete="off" placeholder="Lead id, rule, lane or page" hx-get="/search" hx-target="#found"
          hx-trigger="input changed delay:150ms, load" hx-sync="this:replace"><kbd>esc</kbd></form><div id="found"></div>
        <footer><span><kbd>↑</kbd> <kbd>↓</kbd> choose</span><span><kbd>↵</kbd> open</span><span>Paste a lead id to see why</span></footer>`;
      document.body.append(dialog);
      htmx.process(dialog);
    }
    dialog.showModal();
    document.getElementById('pal').select();
  };
  document.addEventListener('keydown', (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.target.isContentEditable;
    if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      palette();
    }
  });

  // The text that was looked for is the field's own one: what is typed since has found nothing yet. What was chosen stays
  // so when more is found.
  let chosen = null;
  document.addEventListener('htmx:beforeSwap', ({ detail: { target: list } }) => {
    if (list.id === 'found') chosen = list.contains(document.activeElement) && document.activeElement.getAttribute('href');
  });
  document.addEventListener('htmx:afterSwap', ({ detail: { target: list, xhr } }) => {
    if (list.id !== 'found') return;
    const box = document.getElementById('pal');
    box.defaultValue = new URL(xhr.responseURL).searchParams.get('q') || '';
    if (chosen) ([...list.querySelectorAll('a')].find((link) => link.getAttribute('href') === chosen) || box).focus();
  });

  // Arrows go through what was found; Enter opens what is chosen, the first where nothing is. Escape closes at once, also
  // where it would empty the field first.
  on('keydown', '.palette', (found, event) => {
    if (event.key === 'Escape' && found.open) {
      event.preventDefault();
      return found.close();
    }
    const links = [...found.querySelectorAll('#found a')];
    const at = links.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && links.length) {
      event.preventDefault();
      links[(at + step + links.length) % links.length].focus();
    } else if (event.key === 'Enter' && event.target.id === 'pal' && event.target.value === event.target.defaultValue && links.length) {
      event.preventDefault();
      links[0].click();
    }
  });

  // Placeholders: found by their name, put where the cursor was last.
  let target = null;
  document.addEventListener('focusin', (event) => { if (event.target.matches('[data-template]')) target = event.target; });
  on('click', '[data-insert]', (button) => {
    if (!target || !target.isConnected) target = document.querySelector('[data-template]');
    if (!target) return;
    target.focus();
    target.setRangeText(button.dataset.insert, target.selectionStart, target.selectionEnd, 'end');
    target.dispatchEvent(new Event('input', { bubbles: true }));
  });
  on('input', '[data-find]', (box) => {
    const wanted = box.value.trim().toLowerCase();
    document.getElementById(box.dataset.find).querySelectorAll('li').forEach((item) => {
      item.hidden = !item.textContent.toLowerCase().includes(wanted);
    });
  });

  // Drafts: what is typed in a form that is not saved yet, by form, in this browser alone. Secrets are never among it.
  const isSecret = (name) => /^(csrf|version|pasted|with|action\.(token|url)\b.*|sealed_at\..*)$/.test(name);
  const typed = (form) => [...new FormData(form)].filter(([name, value]) => typeof value === 'string' && !isSecret(name));
  const keyOf = (form) => `draft:${form.dataset.draft}`;
  const clock = (at) => new Date(at).toLocaleTimeString();
  const kept = (key) => { try { return JSON.parse(localStorage.getItem(key)); } catch { return null; } };
  const keep = (form) => {
    const at = Date.now();
    try { localStorage.setItem(keyOf(form), JSON.stringify({ at, fields: typed(form), version: form.elements.version.value })); } catch { return; }
    const note = document.querySelector('[data-draft-note]');
    if (note) note.textContent = `Draft kept at ${clock(at)}`;
  };
  let soon;
  const keepSoon = (form) => { clearTimeout(soon); soon = setTimeout(() => keep(form), 300); };
  on('input', 'form[data-draft]', keepSoon);
  document.addEventListener('htmx:afterSwap', (event) => {
    const form = event.target.closest && event.target.closest('form[data-draft]');
    if (event.detail.target.id === 'fields') keepSoon(form || document.querySelector('form[data-draft]'));
  });
  const saved = document.querySelector('[data-saved]');
  if (saved) localStorage.removeItem(`draft:${saved.dataset.saved}`);
  const form = document.querySelector('form[data-draft]');
  const offer = document.querySelector('[data-draft-offer]');
  if (form && offer) {
    const draft = kept(keyOf(form));
    if ('typed' in form.dataset) {
      keep(form);
    } else if (draft && Array.isArray(draft.fields) && JSON.stringify(draft.fields) !== JSON.stringify(typed(form))) {
      const add = (name, value) => {
        const field = document.createElement('input');
        Object.assign(field, { type: 'hidden', name, value });
        offer.append(field);
      };
      draft.fields.forEach(([name, value]) => add(name, value));
      // What is secret stays as the rule has it.
      [...new FormData(form)].filter(([name]) => /^(action\.(token|url)\.(secret|sealed)|sealed_at\..*)$/.test(name)).forEach(([name, value]) => add(name, value));
      add('version', draft.version || '');
      offer.querySelector('[data-draft-at]').textContent = clock(draft.at);
      offer.hidden = false;
    }
  }
  on('click', '[data-draft-drop]', (button) => {
    if (form) localStorage.removeItem(keyOf(form));
    button.closest('form').hidden = true;
  });
})();
