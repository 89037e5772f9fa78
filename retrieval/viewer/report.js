'use strict';
/* The report's script. It runs in the head, so that the page is never seen without it, and starts when the page is read.
   Ids and names of landmarks are data: they reach the page as text, never as markup. */
document.documentElement.classList.add('scripted');
document.addEventListener('DOMContentLoaded', () => {
  const byId = (id) => document.getElementById(id);

  // ---- Data: texts as JSON, numbers as typed arrays, and all pictures as one base64 text.

  const data = JSON.parse(byId('data').textContent);
  const pictures = byId('pictures').textContent;
  const arrays = Object.fromEntries(Object.entries(data.arrays).map(([name, array]) => [name, unpacked(array)]));
  const count = data.queries.length;
  const shownHits = data.hitsShown;

  function unpacked({ kind, data: text }) {
    const types = { Int32Array, Uint32Array, Uint16Array, Uint8Array, Float32Array };
    const characters = atob(text);
    const bytes = new Uint8Array(characters.length);
    for (let place = 0; place < bytes.length; place++) bytes[place] = characters.charCodeAt(place);
    return new types[kind](bytes.buffer);
  }

  /** The address of a picture: of a query by its number, of an index image by `count` + its number; '' if there is none. */
  function pictureAddress(number) {
    const ends = arrays.pictureEnds;
    if (number >= ends.length) return '';
    const piece = pictures.slice(number ? ends[number - 1] : 0, ends[number]);
    return piece && 'data:image/webp;base64,' + piece;
  }

  function landmarkName(landmark) {
    return landmark < 0 ? 'no landmark' : data.landmarks[landmark];
  }

  const landmarkOfImage = (image) => landmarkName(arrays.imageLandmarks[image]);

  function hitsOf(query) {
    const found = [];
    for (let place = query * shownHits; place < (query + 1) * shownHits && arrays.hits[place] >= 0; place++) {
      const kind = arrays.correct[place] ? 'correct' : 'wrong';
      found.push({ image: arrays.hits[place], kind, rank: place % shownHits + 1, cosine: arrays.cosines[place], distance: arrays.distances[place] });
    }
    return found;
  }

  /** What is shown of a query: its hits and then the images that it missed. */
  const foundFor = (query) => hitsOf(query).concat(missedOf(query));

  function missedOf(query) {
    const ends = arrays.missedEnds;
    const images = arrays.missed.slice(query ? ends[query - 1] : 0, ends[query]);
    return Array.from(images, (image) => ({ image, kind: 'missed' }));
  }

  // ---- Elements

  /** An element with attributes and children; texts among the children stay texts. */
  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function button(attributes, ...children) {
    return element('button', { type: 'button', ...attributes }, ...children);
  }

  /** A picture in its frame, whole; without one, words. */
  function frame(number, alternative, mark) {
    const address = pictureAddress(number);
    const shown = address
      ? element('img', { src: address, alt: alternative })
      : element('span', { class: 'no-picture', role: 'img', 'aria-label': alternative }, 'no picture');
    return element('span', { class: 'frame' }, shown, mark ? element('span', { class: 'mark', 'aria-hidden': 'true' }, mark) : null);
  }

  const three = (number) => (Number.isNaN(number) ? '–' : number.toFixed(3).replace('-', '−'));
  const signed = (number) => (number < 0 ? '−' : '+') + Math.abs(number).toFixed(3);

  function described(hit) {
    const name = landmarkOfImage(hit.image);
    if (hit.kind === 'missed') return `Missed: ${name}`;
    return `Hit ${hit.rank}, ${hit.kind === 'correct' ? 'right' : 'wrong'}: ${name}, cosine ${three(hit.cosine)}, distance ${three(hit.distance)}`;
  }

  // ---- Which queries are shown, and in which order

  const state = { order: 'hard', landmark: null, takenFor: null, text: '', queries: [], at: 0 };

  /** Among the first `shownHits` hits of a query is a wrong one of this landmark. */
  function isTakenFor(query, landmark) {
    return hitsOf(query).some((hit) => hit.kind === 'wrong' && arrays.imageLandmarks[hit.image] === landmark);
  }

  function matches(query) {
    const landmark = arrays.queryLandmarks[query];
    if (state.landmark !== null) {
      return landmark === state.landmark && (state.takenFor === null || isTakenFor(query, state.takenFor));
    }
    if (!state.text) return true;
    return data.landmarks[landmark].toLowerCase().includes(state.text) || data.queries[query].toLowerCase().includes(state.text);
  }

  const change = (query) => arrays.precisions[query] - arrays.otherPrecisions[query];
  const byPrecision = (a, b) => arrays.precisions[a] - arrays.precisions[b];
  const orders = {
    hard: byPrecision,
    best: (a, b) => byPrecision(b, a),
    landmark: (a, b) => data.landmarks[arrays.queryLandmarks[a]].localeCompare(data.landmarks[arrays.queryLandmarks[b]]) || byPrecision(a, b),
    lost: (a, b) => change(a) - change(b),
    gained: (a, b) => change(b) - change(a),
  };

  function choose() {
    state.queries = Array.from({ length: count }, (_, query) => query).filter(matches).sort(orders[state.order]);
    state.at = 0;
    const filtered = state.landmark !== null || state.text !== '';
    const taken = state.takenFor === null ? '' : ` with hits of ${data.landmarks[state.takenFor]}`;
    const all = filtered ? ` of ${count.toLocaleString('en')}` : '';
    const mean = state.queries.reduce((sum, query) => sum + arrays.precisions[query], 0) / state.queries.length;
    const precision = state.queries.length ? `, mAP ${three(mean)}` : '';
    byId('count').textContent = `${state.queries.length.toLocaleString('en')}${all} queries${taken}${precision}`;
    byId('clear').hidden = !filtered;
    byId('nothing').hidden = state.queries.length > 0;
    list.reset();
  }

  function showAll() {
    Object.assign(state, { landmark: null, takenFor: null, text: '' });
    byId('find').value = '';
    choose();
  }

  /** Shows the queries of a landmark, or only those that found images of another one. */
  function showLandmark(landmark, takenFor) {
    Object.assign(state, { landmark, takenFor, text: '' });
    byId('find').value = data.landmarks[landmark];
    choose();
    location.hash = 'queries';
  }

  function find() {
    const text = byId('find').value.trim();
    const exact = data.landmarks.indexOf(text);
    // Two landmarks may have one name: only a name that is one landmark's is taken for it.
    const landmark = exact >= 0 && exact === data.landmarks.lastIndexOf(text) ? exact : null;
    Object.assign(state, { landmark, takenFor: null, text: landmark === null ? text.toLowerCase() : '' });
    choose();
  }

  // ---- A row

  function row(query) {
    const name = data.landmarks[arrays.queryLandmarks[query]];
    const made = element('article', { class: 'row', tabindex: '0', 'aria-label': `Query ${data.queries[query]}, ${name}` });
    made.dataset.query = query;
    const photo = button({ class: 'photo', 'aria-label': `Enlarge query ${data.queries[query]}` }, frame(query, `Query ${data.queries[query]}, ${name}`));
    photo.addEventListener('click', () => large.open(query, 0));
    made.append(photo, about(query, name), hits(query), missing(query));
    return made;
  }

  function about(query, name) {
    const precision = element('span', {}, `AP ${three(arrays.precisions[query])}`);
    const other = arrays.otherPrecisions;
    if (other) {
      const moved = change(query);
      const kind = moved > 0 ? 'good' : moved < 0 ? 'bad' : 'soft';
      precision.append(' ', element('span', { class: kind, title: `AP ${three(other[query])} in ${data.otherName}` }, signed(moved)));
    }
    const found = element('span', { class: 'soft' }, `${arrays.found[query]} of ${arrays.relevant[query]} found`);
    const id = element('a', { class: 'id', href: '#query=' + encodeURIComponent(data.queries[query]), title: 'link to this query' }, data.queries[query]);
    return element('p', { class: 'about' }, element('b', {}, name), precision, found, id);
  }

  function hits(query) {
    const items = hitsOf(query).map((hit, place) => {
      const right = hit.kind === 'correct';
      const opener = button({ 'aria-label': described(hit) }, frame(count + hit.image, '', right ? '✓' : '✗'));
      opener.addEventListener('click', () => large.open(query, place));
      const numbers = element('span', { class: 'cosine', 'aria-hidden': 'true' }, three(hit.cosine), element('span', { class: 'soft' }, three(hit.distance)));
      const name = landmarkOfImage(hit.image);
      const taken = right ? null : element('span', { class: 'taken', title: name, 'aria-hidden': 'true' }, name);
      return element('li', { class: `hit ${hit.kind}` }, opener, numbers, taken);
    });
    return element('ol', { class: 'hits', 'aria-label': 'Hits, nearest first' }, ...items);
  }

  function missing(query) {
    const total = arrays.relevant[query] - arrays.found[query];
    if (!total) return element('ul', { class: 'missing' }, element('li', { class: 'words' }, 'No relevant image was missed.'));
    const missed = missedOf(query);
    const before = hitsOf(query).length;
    const items = missed.map((hit, place) => {
      const opener = button({ 'aria-label': described(hit) }, frame(count + hit.image, ''));
      opener.addEventListener('click', () => large.open(query, before + place));
      return element('li', { class: 'hit missed' }, opener);
    });
    const words = `Missed ${total.toLocaleString('en')}` + (total > missed.length ? `, ${missed.length} of them` : '') + ':';
    return element('ul', { class: 'missing', 'aria-label': 'Relevant images that were missed' }, element('li', { class: 'words' }, words), ...items);
  }

  // ---- The list: only the rows in view, and a few around them, exist

  const list = {
    rows: new Map(),
    box: byId('rows'),

    height: () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue('--row')),

    reset() {
      for (const made of this.rows.values()) made.remove();
      this.rows.clear();
      this.box.style.height = `${state.queries.length * this.height()}px`;
      this.draw();
    },

    draw() {
      if (!this.box.offsetParent) return; // another part of the report is shown
      const height = this.height();
      const above = -this.box.getBoundingClientRect().top;
      const first = Math.max(0, Math.floor(above / height) - 2);
      const last = Math.min(state.queries.length, Math.ceil((above + innerHeight) / height) + 2);
      for (const [place, made] of this.rows) {
        if ((place < first || place >= last) && !made.contains(document.activeElement)) {
          made.remove();
          this.rows.delete(place);
        }
      }
      for (let place = first; place < last; place++) this.make(place, height);
      this.mark();
    },

    make(place, height) {
      if (this.rows.has(place)) return;
      const made = row(state.queries[place]);
      made.style.top = `${place * height}px`;
      made.setAttribute('aria-posinset', place + 1);
      made.setAttribute('aria-setsize', state.queries.length);
      made.addEventListener('focusin', () => {
        state.at = place;
        this.mark();
      });
      this.rows.set(place, made);
      // In their order, so that Tab goes from one to the next.
      const after = [...this.rows.entries()].filter(([other]) => other > place).sort(([a], [b]) => a - b)[0];
      this.box.insertBefore(made, after ? after[1] : null);
    },

    mark() {
      for (const [place, made] of this.rows) made.classList.toggle('chosen', place === state.at);
    },

    /** Chooses the query at a place, brings it into view and gives it the focus. */
    go(place) {
      if (place < 0 || place >= state.queries.length) return;
      state.at = place;
      if (this.box.offsetParent) {
        const height = this.height();
        const top = this.box.getBoundingClientRect().top + place * height;
        const covered = document.querySelector('[data-view="queries"] .tools').getBoundingClientRect().height + document.querySelector('.top').offsetHeight;
        if (top < covered) scrollBy(0, top - covered);
        else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight);
        this.draw();
        this.rows.get(place)?.focus({ preventScroll: true });
      }
      map?.choose(state.queries[place]);
    },
  };

  // ---- Enlarged: a query beside one of its hits

  const large = {
    dialog: byId('large'),
    query: 0,
    place: 0,

    open(query, place) {
      Object.assign(this, { query, place });
      this.fill();
      if (!this.dialog.open) this.dialog.showModal();
    },

    fill() {
      const found = foundFor(this.query);
      this.place = Math.max(0, Math.min(this.place, found.length - 1));
      const hit = found[this.place];
      const name = data.landmarks[arrays.queryLandmarks[this.query]];
      byId('large-title').textContent = name;
      byId('large-query').replaceChildren(frame(this.query, `Query ${data.queries[this.query]}`), caption(`Query, AP ${three(arrays.precisions[this.query])}`, data.queries[this.query]));
      const side = byId('large-hit');
      side.className = hit ? hit.kind : '';
      side.replaceChildren(...(hit ? [frame(count + hit.image, described(hit)), caption(described(hit), data.images[hit.image])] : ['Nothing was found.']));
      byId('place').textContent = hit ? `${this.place + 1} of ${found.length}` : '';
      byId('previous').disabled = this.place === 0;
      byId('next').disabled = this.place >= found.length - 1;
    },

    step(by) {
      this.place += by;
      this.fill();
    },

    /** The next query, with its first hit. */
    stepQuery(by) {
      list.go(state.at + by);
      this.open(state.queries[state.at], 0);
    },
  };

  function caption(text, id) {
    return element('figcaption', {}, text, element('span', { class: 'id' }, id));
  }

  // ---- The map

  const map = arrays.positions ? makeMap(byId('canvas')) : null;

  function makeMap(canvas) {
    const context = canvas.getContext('2d');
    const absent = 65535;
    const view = { scale: 1, x: 0, y: 0 };
    const hues = data.landmarks.map((_, landmark) => `hsl(${(landmark * 137.5) % 360} 62% ${landmark % 2 ? 52 : 60}%)`); // neighbours differ
    const grey = '#8a94a6';
    const there = Array.from({ length: arrays.positions.length / 2 }, (_, point) => point).filter((point) => arrays.positions[2 * point] !== absent);
    let chosen = null;
    let dragged = null;

    const isQuery = (point) => point < count;
    const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const extent = [0, 1].map((axis) => there.reduce((most, point) => Math.max(most, Math.abs(arrays.positions[2 * point + axis] - 32767)), 1));
    // Pixels per unit: the same along both axes, so that distances can be compared.
    const unit = () => view.scale * Math.min((canvas.clientWidth / 2 - 18) / extent[0], (canvas.clientHeight / 2 - 18) / extent[1]);
    const left = (point) => canvas.clientWidth / 2 + view.x + (arrays.positions[2 * point] - 32767) * unit();
    const top = (point) => canvas.clientHeight / 2 + view.y + (arrays.positions[2 * point + 1] - 32767) * unit();

    function landmarkOf(point) {
      return isQuery(point) ? arrays.queryLandmarks[point] : arrays.imageLandmarks[point - count];
    }

    function colour(point) {
      if (byId('colour').value === 'landmark') return landmarkOf(point) < 0 ? grey : hues[landmarkOf(point)];
      return isQuery(point) ? `hsl(${arrays.precisions[point] * 140} 65% 48%)` : grey; // red is 0, green is 1
    }

    function draw() {
      if (!canvas.offsetParent) return;
      const density = devicePixelRatio;
      canvas.width = canvas.clientWidth * density;
      canvas.height = canvas.clientHeight * density;
      context.scale(density, density);
      context.globalAlpha = chosen === null ? 0.6 : 0.3;
      for (const point of there) if (!isQuery(point)) dot(point, 2.2);
      context.globalAlpha = chosen === null ? 1 : 0.55;
      context.strokeStyle = css('--card');
      for (const point of there) if (isQuery(point)) dot(point, 4.5, true);
      context.globalAlpha = 1;
      if (chosen !== null) drawChosen();
    }

    function dot(point, radius, ring) {
      context.beginPath();
      context.arc(left(point), top(point), radius, 0, 7);
      context.fillStyle = colour(point);
      context.fill();
      if (ring) context.stroke();
    }

    function drawChosen() {
      const styles = { correct: ['--right', []], wrong: ['--wrong', [6, 4]], missed: ['--soft', [2, 4]] };
      context.lineWidth = 1.6;
      for (const hit of foundFor(chosen)) {
        const point = count + hit.image;
        if (arrays.positions[2 * point] === absent) continue;
        const [name, dashes] = styles[hit.kind];
        context.strokeStyle = css(name);
        context.setLineDash(dashes);
        context.beginPath();
        context.moveTo(left(chosen), top(chosen));
        context.lineTo(left(point), top(point));
        context.stroke();
        dot(point, 3.5);
      }
      context.setLineDash([]);
      context.strokeStyle = css('--ink');
      context.lineWidth = 2;
      dot(chosen, 7, true);
      context.lineWidth = 1;
    }

    /** The point under the pointer, queries before images. */
    function pointAt(event) {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let best = null;
      let nearest = 12;
      for (const point of there) {
        const distance = Math.hypot(left(point) - x, top(point) - y) - (isQuery(point) ? 3 : 0);
        if (distance < nearest) [best, nearest] = [point, distance];
      }
      return best;
    }

    function hover(event) {
      const point = dragged ? null : pointAt(event);
      const tip = byId('hover');
      tip.hidden = point === null;
      if (point === null) return;
      const name = landmarkName(landmarkOf(point));
      const words = isQuery(point) ? `Query, AP ${three(arrays.precisions[point])}` : 'Index image';
      tip.replaceChildren(frame(point, ''), element('b', {}, name), element('br'), words);
      const box = canvas.getBoundingClientRect();
      tip.style.left = `${Math.min(event.clientX - box.left + 14, box.width - 160)}px`;
      tip.style.top = `${Math.max(0, Math.min(event.clientY - box.top + 14, box.height - 170))}px`;
    }

    function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
      const scale = Math.min(40, Math.max(1, view.scale * factor));
      const [dx, dy] = [x - canvas.clientWidth / 2, y - canvas.clientHeight / 2];
      view.x = dx - (dx - view.x) * scale / view.scale;
      view.y = dy - (dy - view.y) * scale / view.scale;
      view.scale = scale;
      draw();
    }

    function choose(query) {
      chosen = query ?? null;
      byId('chosen').replaceChildren(...(chosen === null ? [] : [row(chosen)]));
      draw();
    }

    canvas.addEventListener('pointerdown', (event) => {
      dragged = { x: event.clientX - view.x, y: event.clientY - view.y, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (dragged) {
        const [x, y] = [event.clientX - dragged.x, event.clientY - dragged.y];
        dragged.moved ||= Math.hypot(x - view.x, y - view.y) > 4;
        if (dragged.moved) {
          Object.assign(view, { x, y });
          draw();
        }
      }
      hover(event);
    });
    canvas.addEventListener('pointerup', (event) => {
      const moved = dragged?.moved;
      dragged = null;
      if (moved) return;
      const point = pointAt(event);
      if (point === null) choose(null);
      else if (isQuery(point)) choose(point);
    });
    canvas.addEventListener('pointerleave', () => (byId('hover').hidden = true));
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    byId('closer').addEventListener('click', () => zoom(1.5));
    byId('further').addEventListener('click', () => zoom(1 / 1.5));
    byId('whole').addEventListener('click', () => {
      Object.assign(view, { scale: 1, x: 0, y: 0 });
      choose(null);
    });
    byId('colour').addEventListener('change', draw);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
    return { draw, choose };
  }

  // ---- Views: the address decides which part of the report is shown

  /** What stands behind the # of the address; '' if it is no text. */
  function address() {
    try {
      return decodeURIComponent(location.hash.slice(1));
    } catch {
      return '';
    }
  }

  function show() {
    const name = address();
    const query = name.startsWith('query=') ? data.queries.indexOf(name.slice('query='.length)) : -1;
    const target = query >= 0 ? byId('queries') : byId(name) ?? byId('summary');
    const view = target.closest('.view') ?? byId('summary').closest('.view');
    for (const other of document.querySelectorAll('.view')) other.classList.toggle('shown', other.dataset.view === view.dataset.view);
    for (const link of document.querySelectorAll('.top nav a')) {
      const current = link.hash === '#' + view.dataset.view;
      if (current) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
      if (current) link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.offsetLeft - 40;
    }
    if (target === view.querySelector('[id]')) scrollTo(0, 0);
    else target.scrollIntoView();
    list.reset();
    map?.draw();
    if (query >= 0) goToQuery(query);
  }

  function goToQuery(query) {
    if (!state.queries.includes(query)) showAll();
    list.go(state.queries.indexOf(query));
  }

  // ---- Keys

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches('input, select')) {
      if (event.key === 'Escape') event.target.blur();
      return;
    }
    const action = large.dialog.open ? enlargedKeys[event.key] : byId('keys').open ? null : keys[event.key];
    if (action && action(event) !== false) event.preventDefault();
  }

  const enlargedKeys = {
    ArrowLeft: () => large.step(-1),
    ArrowRight: () => large.step(1),
    j: () => large.stepQuery(1),
    k: () => large.stepQuery(-1),
  };

  const keys = {
    j: () => step(1),
    k: () => step(-1),
    '/': () => {
      location.hash = 'queries';
      byId('find').focus();
    },
    '?': () => byId('keys').showModal(),
    // A focused button or link does what it is for.
    Enter: (event) => (event.target.matches('button, a, summary') || !state.queries.length || !stepping() ? false : large.open(state.queries[state.at], 0)),
  };

  const stepping = () => document.querySelector('.view.shown').matches('[data-view="queries"], [data-view="map"]');

  /** The next or the previous query; from another part of the report, the first one. */
  function step(by) {
    if (!stepping()) {
      location.hash = 'queries';
      return;
    }
    const begun = list.rows.get(state.at)?.contains(document.activeElement) || !list.box.offsetParent;
    list.go(begun ? state.at + by : state.at);
  }

  // ---- Start

  byId('landmark-names').append(...[...new Set(data.landmarks)].sort().map((name) => element('option', { value: name })));
  byId('order').addEventListener('change', (event) => {
    state.order = event.target.value;
    choose();
  });
  byId('find').addEventListener('input', find);
  byId('clear').addEventListener('click', showAll);
  byId('clear-too').addEventListener('click', showAll);
  byId('show-keys').addEventListener('click', () => byId('keys').showModal());
  byId('previous').addEventListener('click', () => large.step(-1));
  byId('next').addEventListener('click', () => large.step(1));
  for (const opener of document.querySelectorAll('button[data-landmark]')) {
    const { landmark, takenFor } = opener.dataset;
    opener.addEventListener('click', () => showLandmark(Number(landmark), takenFor === undefined ? null : Number(takenFor)));
  }
  for (const opener of document.querySelectorAll('button[data-order]')) {
    opener.addEventListener('click', () => {
      state.order = byId('order').value = opener.dataset.order;
      showAll();
      location.hash = 'queries';
    });
  }
  let waiting = false;
  addEventListener('scroll', () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      list.draw();
    });
  }, { passive: true });
  addEventListener('resize', () => {
    list.reset();
    map?.draw();
  });
  addEventListener('hashchange', show);
  document.addEventListener('keydown', onKey);
  choose();
  show();
});
