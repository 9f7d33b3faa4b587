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

  // `/` goes to the search.
  document.addEventListener('keydown', (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.target.isContentEditable;
    if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const search = document.getElementById('q');
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    }
  });
})();
